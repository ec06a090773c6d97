-- What the command says and how: checked output, notes, failures with an exit code, tables, progress.
-- Everything that came from an event is escaped before a terminal sees it.

local M = {}

--- Exit codes, as `tidemill help exit-codes` explains them.
M.OK, M.FAILURE, M.USAGE, M.UNREACHABLE = 0, 1, 2, 3
M.INTERRUPTED, M.PIPE = 130, 141

local EPIPE = 32
local TEXT_MAX = 4096

local failure_mt = { __name = "tidemill.cli.failure", __tostring = function(self) return self.message end }

--- What M.fail raises.
---@param code integer
---@param message? string
function M.failure(code, message)
  return setmetatable({ exit = code, message = message }, failure_mt)
end

--- Ends the command with an exit code and one line on stderr (none when `message` is nil).
---@param code integer
---@param message? string
function M.fail(code, message)
  error(M.failure(code, message), 0)
end

--- Whether a raised value comes from M.fail.
function M.is_failure(value)
  return getmetatable(value) == failure_mt
end

-- Codes that mean: the server can't be reached, or doesn't let us in.
local UNREACHABLE = {
  ["TIDE-CONNECT"] = true, ["TIDE-DISCONNECTED"] = true, ["TIDE-TIMEOUT"] = true, ["TIDE-TLS"] = true,
  ["TIDE-NOAUTH"] = true, ["TIDE-NOPERM"] = true, ["TIDE-LOADING"] = true, ["TIDE-MAXCLIENTS"] = true,
  ["TIDE-PROTOCOL"] = true, ["TIDE-FOREIGN"] = true, ["TIDE-CORRUPT"] = true, ["TIDE-IO"] = true,
  ["TIDE-READONLY"] = true,
}

--- The exit code that an error of the library stands for.
function M.exit_of(err)
  local code = type(err) == "table" and err.code
  if UNREACHABLE[code] then return M.UNREACHABLE end
  if code == "TIDE-URL" or code == "TIDE-OPTION" or code == "TIDE-ARGUMENT" then return M.USAGE end
  return M.FAILURE
end

--- Fails with an error of the library.
---@param err tidemill.Error
---@param what? string  put in front
---@param hint? string  put behind, in brackets
function M.fail_with(err, what, hint)
  local text = tostring(err)
  if what then text = what .. ": " .. text end
  if hint then text = ("%s (%s)"):format(text, hint) end
  M.fail(M.exit_of(err), text)
end

-- ---- text from the world ----

-- Bytes of the UTF-8 character at `index`, or nil when there is no valid one.
local function utf8_length(text, index)
  local a, b, c, d = text:byte(index, index + 3)
  local function follows(byte) return byte and byte >= 0x80 and byte <= 0xBF end
  if a < 0x80 then return 1 end
  if a >= 0xC2 and a <= 0xDF then return follows(b) and 2 or nil end
  if a >= 0xE0 and a <= 0xEF then
    if not (follows(b) and follows(c)) or (a == 0xE0 and b < 0xA0) or (a == 0xED and b > 0x9F) then return nil end
    return 3
  end
  if a >= 0xF0 and a <= 0xF4 then
    if not (follows(b) and follows(c) and follows(d)) or (a == 0xF0 and b < 0x90) or (a == 0xF4 and b > 0x8F) then
      return nil
    end
    return 4
  end
  return nil
end

--- The code point of a valid UTF-8 character.
local function code_point(character)
  local a, b, c, d = character:byte(1, 4)
  if d then return (a % 8) * 262144 + (b % 64) * 4096 + (c % 64) * 64 + d % 64 end
  if c then return (a % 16) * 4096 + (b % 64) * 64 + c % 64 end
  if b then return (a % 32) * 64 + b % 64 end
  return a
end

-- Control characters, and those that reorder or hide what stands around them.
local function is_hazard(point)
  return point < 0x20 or (point >= 0x7F and point <= 0x9F) or point == 0x61C or (point >= 0x200B and point <= 0x200F)
    or (point >= 0x2028 and point <= 0x202E) or (point >= 0x2060 and point <= 0x206F) or point == 0xFEFF
    or (point >= 0xFFF9 and point <= 0xFFFB) or point >= 0xE0000
end

--- Calls on_text(valid and harmless run), on_hazard(code point), on_byte(invalid byte) from left to right.
function M.scan(text, on_text, on_hazard, on_byte)
  local index, from, size = 1, 1, #text
  while index <= size do
    local length = utf8_length(text, index)
    local point = length and code_point(text:sub(index, index + length - 1))
    if length and not is_hazard(point) then
      index = index + length
    else
      if index > from then on_text(text:sub(from, index - 1)) end
      if length then on_hazard(point) else on_byte(text:byte(index)) end
      index = index + (length or 1)
      from = index
    end
  end
  if index > from then on_text(text:sub(from)) end
end

local NAMED = { [9] = "\\t", [10] = "\\n", [13] = "\\r", [27] = "\\e" }

--- Text for one line of a terminal: nothing in it moves the cursor, changes colours or reorders.
---@param text any
---@param max? integer bytes shown (default 4096)
function M.escape(text, max)
  text = tostring(text)
  local cut = ""
  max = max or TEXT_MAX
  if #text > max then
    local whole = #text
    text = text:sub(1, max)
    cut = ("… (%d bytes)"):format(whole)
  end
  if not text:find "[%c\127-\255]" then return text .. cut end
  local out = {}
  M.scan(text,
    function(run) out[#out + 1] = run end,
    function(point)
      out[#out + 1] = NAMED[point] or (point < 0x80 and "\\x%02X" or "\\u{%X}"):format(point)
    end,
    function(byte) out[#out + 1] = ("\\x%02X"):format(byte) end)
  return table.concat(out) .. cut
end

--- Whether every byte belongs to a valid UTF-8 character.
function M.is_utf8(text)
  if not text:find "[\128-\255]" then return true end
  local index, size = 1, #text
  while index <= size do
    local length = utf8_length(text, index)
    if not length then return false end
    index = index + length
  end
  return true
end

-- ---- terminal ----

local tty = {}

--- Whether descriptor 1 or 2 is a terminal.
function M.is_tty(descriptor)
  if tty[descriptor] == nil then
    -- The child has our descriptors: asking it needs no C of our own.
    local status = os.execute(("test -t %d"):format(descriptor))
    tty[descriptor] = status == true or status == 0
  end
  return tty[descriptor]
end

--- Columns that there is room for: at most `most`, fewer when COLUMNS says so, never fewer than 40.
---@param most integer
---@return integer
function M.width(most)
  local columns = tonumber((os.getenv "COLUMNS" or ""):match "^%d+$") or most
  return math.max(40, math.min(most, columns))
end

local COLORS = { red = 31, green = 32, yellow = 33, blue = 34, dim = 2, bold = 1 }

--- `text` in a colour, when stdout is a terminal that wants colours.
function M.paint(color, text)
  if M.colors == nil then
    local no_color = os.getenv "NO_COLOR"
    M.colors = (no_color == nil or no_color == "") and os.getenv "TERM" ~= "dumb" and M.is_tty(1)
  end
  if not M.colors then return text end
  return ("\27[%dm%s\27[0m"):format(COLORS[color], text)
end

local function check(ok, message, number)
  if ok then return end
  if number == EPIPE then M.fail(M.PIPE, nil) end
  M.fail(M.FAILURE, "cannot write to standard output: " .. tostring(message or "it is closed"):gsub("^.-: ", ""))
end

--- Writes to standard output; a full disk or a closed descriptor ends the command, a closed pipe does so quietly.
function M.write(...)
  check(io.stdout:write(...))
end

--- Values on one line of standard output, as print does it, but checked.
function M.print(...)
  local words = { ... }
  for index = 1, select("#", ...) do words[index] = tostring(words[index]) end
  M.write(table.concat(words, "\t"), "\n")
end

--- Sends what is still buffered; fails as M.write does.
function M.flush()
  check(io.stdout:flush())
end

--- A line on stderr.
function M.note(format, ...)
  M.clear_progress()
  local text = select("#", ...) > 0 and format:format(...) or format
  io.stderr:write("tidemill: ", M.escape(text), "\n")
end

--- Rows as aligned columns. `head` names them; numbers are set to the right.
function M.table(head, rows)
  local widths, right = {}, {}
  local function width(text)
    local _, continuation = text:gsub("[\128-\191]", "")
    return #text - continuation
  end
  local cells = {}
  for index, name in ipairs(head) do
    widths[index] = width(name)
    right[index] = #rows > 0
  end
  for number, row in ipairs(rows) do
    cells[number] = {}
    for index = 1, #head do
      local value = row[index]
      if value ~= nil and type(value) ~= "number" and value ~= "-" then right[index] = false end
      local text = value == nil and "-" or M.escape(value, 200)
      cells[number][index] = text
      widths[index] = math.max(widths[index], width(text))
    end
  end
  local function line(texts, paint)
    local out = {}
    for index, text in ipairs(texts) do
      local pad = (" "):rep(widths[index] - width(text))
      local shown = paint and M.paint(paint, text) or text
      if right[index] then out[index] = pad .. shown
      else out[index] = index == #texts and shown or shown .. pad end
    end
    M.write("  ", table.concat(out, "  "), "\n")
  end
  line(head, "dim")
  for _, row in ipairs(cells) do line(row) end
end

-- ---- progress ----

local shown = false

-- Columns of the terminal that is standard error.
local function terminal_width()
  local pipe = io.popen "stty size <&2 2>/dev/null"
  local rows, columns = pipe:read("*n", "*n")
  pipe:close()
  return rows and columns and columns > 0 and columns or tonumber(os.getenv "COLUMNS") or 80
end

--- A progress line that fits: with its bar, without it, or cut, so that it can be written over.
---@param label string
---@param done integer
---@param total? integer
---@param rate number  per second
---@param width integer  columns of the terminal
function M.progress_line(label, done, total, rate, width)
  local line
  if total and total > 0 then
    local share = math.min(done / total, 1)
    local filled = math.floor(share * 24)
    local numbers = ("%3d %% %d of %d, %.0f/s"):format(math.floor(share * 100), done, total, rate)
    line = ("%s [%s%s] %s"):format(label, ("#"):rep(filled), ("."):rep(24 - filled), numbers)
    if #line >= width then line = label .. " " .. numbers end
  else
    line = ("%s %d, %.0f/s"):format(label, done, rate)
  end
  return line:sub(1, width - 1)
end

--- A progress bar on stderr when that is a terminal, else nothing. Call with what is done so far.
---@param label string
---@param total? integer nil when it isn't known
---@param clock? function seconds
function M.progress(label, total, clock)
  if not M.is_tty(2) or os.getenv "TERM" == "dumb" then return function() end end
  clock = clock or os.time
  local began, last, width = clock(), nil, nil
  return function(done, final)
    local now = clock()
    if not final and last == now and done ~= total then return end
    last = now
    width = width or terminal_width()
    local line = M.progress_line(label, done, total, done / math.max(now - began, 1), width)
    io.stderr:write("\r", line, "\27[K")
    shown = true
    if final then M.clear_progress() end
  end
end

--- Takes a progress line off the terminal.
function M.clear_progress()
  if shown then
    shown = false
    io.stderr:write "\r\27[K"
  end
end

return M
