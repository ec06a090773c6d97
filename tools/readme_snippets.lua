-- Runs the ```lua blocks of README.md and docs/, and compiles the ```c blocks that are whole programs; prints TAP.
-- A block runs in a process of its own on `memory:`, whatever URL it names; `bus:run()` comes back after a second;
-- `bus` is there as a global and as the chunk's argument; a function that the text leaves to the reader (`charge`)
-- is a stub. A line `<!-- snippet: skip REASON -->` above a block leaves it out, with its reason shown.
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua;" .. package.path
local scan = require "scan"

local PRELUDE = [==[
local path = ...
local tidemill = require "tidemill"
local real_open = tidemill.open
local function bounded(bus)
  local mt = getmetatable(bus)
  local methods = mt and type(mt.__index) == "table" and mt.__index or bus
  if not rawget(methods, "__snippet") then
    rawset(methods, "__snippet", true)
    rawset(methods, "run", function(self)
      local stop = os.time() + 2
      while os.time() < stop do self:tick(0.05, { wait = true }) end
      return true
    end)
  end
  return bus
end
function tidemill.open(_, options) return bounded(real_open("memory:", options)) end
local function text() return "stub" end
local function stub() return setmetatable({}, { __index = text, __tostring = text }) end
bus = bounded(real_open("memory:"))
orders = bus:topic("orders")
os.exit = function() end
local absent = { ngx = true, jit = true, love = true }
setmetatable(_G, { __index = function(_, name) return not absent[name] and stub or nil end })
local chunk = assert(loadfile(path))
chunk(bus)
]==]

local function write_file(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local output = pipe:read("*a")
  local ok = pipe:close()
  return ok == true, output
end

local function snippets(path)
  local found, block, skip = {}, nil, nil
  for number, line in ipairs(scan.lines(path)) do
    local language = line:match("^%s*```(%w+)")
    if block and line:find("^%s*```%s*$") then
      block.text = table.concat(block, "\n") .. "\n"
      found[#found + 1] = block
      block, skip = nil, nil
    elseif block then
      block[#block + 1] = line
    elseif language then
      block = { language = language, path = path, line = number, skip = skip }
    elseif line:find("%S") then
      skip = line:match("^<!%-%-%s*snippet:%s*skip%s*(.-)%s*%-%->")
    end
  end
  return found
end

local prelude = os.tmpname()
write_file(prelude, PRELUDE)
local count = 0
local paths = scan.files("docs", "*.md")
table.insert(paths, 1, "README.md")
for _, path in ipairs(paths) do
  for _, block in ipairs(snippets(path)) do
    local name = ("%s:%d"):format(block.path, block.line)
    local is_c = block.language == "c" and block.text:find("int main%s*%(")
    if block.language == "lua" or is_c then
      count = count + 1
      if block.skip then
        print(("ok %d - # SKIP %s %s"):format(count, name, block.skip))
      else
        local file = os.tmpname()
        write_file(file, block.text)
        local ok, output
        if is_c then
          ok, output = run(("cc -std=c11 -Wall -Wextra -Werror -fsyntax-only -Icsrc/include -x c '%s'"):format(file))
        else
          ok, output = run(("timeout 30 '%s' '%s' '%s'"):format(arg[-1] or "lua5.4", prelude, file))
        end
        os.remove(file)
        print(("%s %d - %s"):format(ok and "ok" or "not ok", count, name))
        if not ok then print("# " .. output:gsub("\n", "\n# ")) end
      end
    end
  end
end
os.remove(prelude)
print("1.." .. count)
