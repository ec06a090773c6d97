-- SPDX-License-Identifier: MIT
-- Running programs from specs: quoting, captured output, background processes, throwaway folders. Only the standard
-- library and /bin/sh, so that Lua 5.4 and LuaJIT specs share it.

local M = {}

--- One shell word that stands for exactly these bytes.
---@param text string
---@return string
function M.quote(text)
  text = tostring(text)
  if text:find "^[%w_./:=@%%+-]+$" then return text end
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

--- A command line from separate words.
function M.words(list)
  local quoted = {}
  for index, word in ipairs(list) do quoted[index] = M.quote(word) end
  return table.concat(quoted, " ")
end

--- What a command line prints, all of it.
---@param command string
---@return string
function M.capture(command)
  local pipe = assert(io.popen(command, "r"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

--- All of a file; nil when it can't be opened.
function M.read_file(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

--- Writes a file anew; its path.
function M.write_file(path, text)
  local file = assert(io.open(path, "wb"))
  assert(file:write(text))
  assert(file:close())
  return path
end

function M.sleep(seconds)
  os.execute(("sleep %.3f"):format(seconds))
end

--- Calls `check` until it gives a true value; that value, or nil after `seconds`.
function M.wait_until(check, seconds, step)
  local tries = math.ceil((seconds or 10) / (step or 0.02))
  for _ = 1, tries do
    local value = check()
    if value then return value end
    M.sleep(step or 0.02)
  end
  return check() or nil
end

local random_state

--- An integer in low … high, seeded from the system so that parallel specs differ.
function M.random(low, high)
  if not random_state then
    local file = assert(io.open("/dev/urandom", "rb"))
    local a, b, c = file:read(3):byte(1, 3)
    file:close()
    random_state = a * 65536 + b * 256 + c
  end
  random_state = (random_state * 69069 + 12345) % 4294967296
  return low + math.floor(random_state / 4294967296 * (high - low + 1))
end

--- The id of this Lua process.
function M.own_pid()
  return tonumber(M.capture "echo $PPID")
end

--- Whether a process exists and isn't a zombie.
function M.is_alive(pid)
  local stat = M.read_file("/proc/" .. pid .. "/stat")
  if stat then
    local state = stat:match "^.*%)%s+(%a)"
    return state ~= "Z" and state ~= "X"
  end
  if M.read_file "/proc/self/stat" then return false end
  return M.capture(("kill -0 %d 2>/dev/null && echo yes"):format(pid)) ~= ""
end

--- Sends a signal ("TERM", "KILL" …); nothing when nobody is there.
function M.signal(pid, name)
  os.execute(("kill -%s %d 2>/dev/null"):format(name, pid))
end

--- A function called once when the Lua state ends (or when the token that is returned is collected).
---@return any token keep it as long as the function is wanted
function M.at_exit(fn)
  local done = false
  local function once()
    if not done then
      done = true
      fn()
    end
  end
  -- Lua 5.1 finalises userdata only.
  local newproxy = rawget(_G, "newproxy")
  if newproxy then
    local token = newproxy(true)
    getmetatable(token).__gc = once
    return token
  end
  return setmetatable({}, { __gc = once })
end

local temporary = {} -- the folders that are still there
local temporary_end
local BASE_MAX = 75 -- of the 107 bytes of a socket's path; "/tide-LABEL-XXXXXX/s.sock" has the rest

--- A new folder under $TMPDIR, removed when the Lua state ends. Its path needs no quoting in a URL or a configuration,
-- and a unix socket fits into it: where $TMPDIR isn't so, it is under /tmp.
function M.temporary_dir(label)
  local base = os.getenv "TMPDIR" or ""
  if #base > BASE_MAX or not base:find "^/[%w/._+-]+$" then base = "/tmp" end
  local template = M.quote(base .. "/tide-" .. (label or "spec") .. "-XXXXXX")
  local dir = M.capture("mktemp -d " .. template):gsub("\n$", "")
  assert(dir ~= "", "cannot make a folder under " .. base)
  temporary[dir] = true
  -- One for all, made before any process that works in one of them, so that it comes after their ends.
  temporary_end = temporary_end or M.at_exit(function()
    for left in pairs(temporary) do M.remove_dir(left) end
  end)
  return dir
end

--- Removes a folder that temporary_dir made, at once.
function M.remove_dir(dir)
  assert(dir:find "/tide%-", "refusing to remove " .. dir)
  temporary[dir] = nil
  os.execute("rm -rf " .. M.quote(dir))
end

-- Shell lines that go before a command: its environment and its folder.
local function preamble(options)
  local lines = {}
  for name, value in pairs(options.env or {}) do
    lines[#lines + 1] = value == false and ("unset %s\n"):format(name)
      or ("export %s=%s\n"):format(name, M.quote(value))
  end
  if options.dir then lines[#lines + 1] = "cd " .. M.quote(options.dir) .. " || exit 99\n" end
  return table.concat(lines)
end

--- Runs a command line to its end.
---@param command string|string[] a command line, or words to be quoted
---@param options? { input: string?, env: table<string, string|false>?, dir: string?, timeout: number? }
---  timeout in seconds (default 60); env: false removes a variable
---@return { code: integer, out: string, err: string }
function M.run(command, options)
  options = options or {}
  if type(command) == "table" then command = M.words(command) end
  local scratch = M.temporary_dir "run"
  local input = "/dev/null"
  if options.input then input = M.write_file(scratch .. "/in", options.input) end
  local script = M.write_file(scratch .. "/script", preamble(options) .. command .. "\n")
  local q = M.quote(scratch)
  local line = ("timeout -k 2 %s sh %s <%s >%s/out 2>%s/err; echo $? >%s/code"):format(
    options.timeout or 60, M.quote(script), M.quote(input), q, q, q)
  os.execute(line)
  local result = {
    code = tonumber(M.read_file(scratch .. "/code")),
    out = M.read_file(scratch .. "/out") or "",
    err = M.read_file(scratch .. "/err") or "",
  }
  M.remove_dir(scratch)
  return result
end

local Process = {}
Process.__index = Process

--- Starts a command line in the background. It dies with this Lua process.
---@param command string|string[]
---@param options? { env: table<string, string|false>?, dir: string?, input: string?, remove: string? }
---  remove: a folder that goes with the process when this Lua process was killed
function M.spawn(command, options)
  options = options or {}
  if type(command) == "table" then command = M.words(command) end
  local scratch = M.temporary_dir "proc"
  local input = "/dev/null"
  if options.input then input = M.write_file(scratch .. "/in", options.input) end
  -- The outer shell waits, so that the exit status is kept and no zombie stays; the watcher ends what outlives us.
  local q = M.quote(scratch)
  M.write_file(scratch .. "/script", preamble(options) .. "exec " .. command .. "\n")
  local own = M.own_pid()
  M.write_file(scratch .. "/keeper", ([[
sh %s/script <%s >%s/out 2>%s/err &
pid=$!
echo $pid >%s/pid.new && mv %s/pid.new %s/pid
( while kill -0 %d 2>/dev/null && kill -0 $pid 2>/dev/null; do sleep 1; done; kill -9 $pid 2>/dev/null ) &
wait $pid
code=$?
if kill -0 %d 2>/dev/null; then echo $code >%s/code.new && mv %s/code.new %s/code; else rm -rf %s %s; fi
]]):format(q, M.quote(input), q, q, q, q, q, own, own, q, q, q, q, M.quote(options.remove or scratch)))
  os.execute(("sh %s/keeper </dev/null >/dev/null 2>&1 &"):format(q))
  local pid = M.wait_until(function() return M.read_file(scratch .. "/pid") end, 10, 0.01)
  local process = setmetatable({ pid = assert(tonumber(pid), "cannot start " .. command), scratch = scratch }, Process)
  process.token = M.at_exit(function()
    if not M.read_file(scratch .. "/code") then M.signal(process.pid, "KILL") end
  end)
  return process
end

--- What it has written so far.
function Process:output() return M.read_file(self.scratch .. "/out") or "" end
function Process:errors() return M.read_file(self.scratch .. "/err") or "" end
function Process:signal(name) M.signal(self.pid, name) end
function Process:is_alive() return not M.read_file(self.scratch .. "/code") and M.is_alive(self.pid) end

--- The exit status (128 + n after signal n), or nil when it still runs after `seconds`.
function Process:wait(seconds)
  local code = M.wait_until(function() return M.read_file(self.scratch .. "/code") end, seconds or 20, 0.02)
  return code and tonumber(code)
end

--- Waits until its output (and errors) contain a pattern.
function Process:wait_for(pattern, seconds)
  return M.wait_until(function() return (self:output() .. self:errors()):match(pattern) end, seconds or 20, 0.05)
end

--- SIGKILL; its exit status (137, or what it ended with before).
function Process:kill()
  M.signal(self.pid, "KILL")
  return self:wait(10)
end

return M
