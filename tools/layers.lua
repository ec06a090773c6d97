-- Holds the arrows of the design: includes and requires point down only, and what a layer may see of the system.
-- Usage: lua5.4 tools/layers.lua [ROOT]; prints one line a violation, exit code 1 if there is any.
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua;" .. package.path
local scan = require "scan"

local root = arg[1] or "."

-- The longest matching folder gives the layer. Folders of one rank never see each other.
local RANK = {
  ["base"] = 0,
  ["policy"] = 1, ["telemetry"] = 1, ["proto"] = 1,
  ["broker"] = 2,
  ["broker/redis"] = 3, ["broker/sqlite"] = 3, ["broker/nats"] = 3, ["consumer"] = 3,
  ["engine"] = 4, ["transport"] = 4,
  ["runtime"] = 5,
  ["binding"] = 6,
  ["host"] = 7,
  ["cli"] = 8,
}

-- Plain computation: no socket, clock, thread, signal or file.
local ISO_C = {}
for name in ([[assert ctype errno float inttypes limits math stdalign stdarg stdatomic stdbool stddef stdint
  stdio stdlib stdnoreturn string]]):gmatch("%S+") do
  ISO_C[name .. ".h"] = true
end

-- Foreign libraries and the only folders that see them.
local LIBRARIES = {
  { "^hiredis", { ["proto"] = true } },
  { "^sqlite3", { ["broker/sqlite"] = true } },
  { "^openssl/", { ["transport"] = true } },
  { "^lua[%w]*%.h", { ["binding"] = true, ["host"] = true, ["cli"] = true } },
  { "^lauxlib%.h", { ["binding"] = true, ["host"] = true, ["cli"] = true } },
}

-- Bytes, and the port's words for a link: never a reply, a stream or a consumer.
local SEEN_BY_TRANSPORT = { base = true, policy = true, telemetry = true, broker = true }

-- More than ISO C, for one folder, with its reason.
local ALLOWED = {
  ["broker/sqlite"] = { ["sys/stat.h"] = "file modes", ["fcntl.h"] = "file modes", ["unistd.h"] = "file modes" },
}

local violations = {}
local function report(path, line, text)
  violations[#violations + 1] = ("%s:%d: %s"):format(path, line, text)
end

local function folder_of(path)
  local folder = path:match("^(.*)/[^/]*$") or ""
  while folder ~= "" do
    if RANK[folder] then return folder end
    folder = folder:match("^(.*)/[^/]*$") or ""
  end
end

-- Comments and strings blanked, so that a word in them is no call.
local function code_lines(path)
  local lines, inside = scan.lines(path), false
  for i, line in ipairs(lines) do
    if not line:find("^%s*#%s*include") then
      line = line:gsub('\\.', "  "):gsub('"[^"]*"', '""')
    end
    if inside then
      local stop = line:find("*/", 1, true)
      inside, line = not stop, stop and line:sub(stop + 2) or ""
    end
    line = line:gsub("/%*.-%*/", " "):gsub("//.*", "")
    local start = line:find("/*", 1, true)
    if start then line, inside = line:sub(1, start - 1), true end
    lines[i] = line
  end
  return lines
end

local function check_c(path, relative)
  local public = relative:find("^include/tidemill/") ~= nil
  local folder = folder_of(relative)
  if not public and not folder then
    report(path, 1, "is in no layer: add its folder to tools/layers.lua and docs/architecture.md")
    return
  end
  local rank = public and -1 or RANK[folder]
  local plain = public or (rank <= 4 and folder ~= "transport")
  local lines = code_lines(path)
  for number, line in ipairs(lines) do
    local own = line:match('^%s*#%s*include%s*"([^"]+)"')
    local system = line:match("^%s*#%s*include%s*<([^>]+)>")
    if own then
      if public then
        report(path, number, ('a public header includes "%s": only <tidemill/...> is installed'):format(own))
      else
        if not own:find("/") then own = relative:match("^(.*)/") .. "/" .. own end
        local target = folder_of(own)
        if not target then
          report(path, number, ('"%s" is in no layer'):format(own))
        elseif target ~= folder then
          if RANK[target] > rank then
            report(path, number, ("%s (L%d) includes %s (L%d): arrows point down"):format(
              folder, rank, own, RANK[target]))
          elseif RANK[target] == rank then
            report(path, number, ("%s and %s are siblings and never see each other"):format(folder, target))
          elseif folder == "transport" and not SEEN_BY_TRANSPORT[target] then
            report(path, number, "transport knows bytes, not replies or streams: it includes no " .. own)
          end
        end
      end
    elseif system and not system:find("^tidemill/") then
      local known = false
      for _, library in ipairs(LIBRARIES) do
        if system:find(library[1]) then
          known = true
          if not (folder and library[2][folder]) or public then
            report(path, number, ("<%s> is not for %s"):format(system, public and "public headers" or folder))
          end
        end
      end
      if not known and plain and not ISO_C[system] and not ((ALLOWED[folder] or {})[system]) then
        report(path, number, ("<%s> in %s: below runtime only transport touches the system"):format(
          system, public and "a public header" or folder))
      end
    end
    if plain and not public and relative ~= "base/alloc.c" then
      for _, name in ipairs { "malloc", "calloc", "realloc", "free", "strdup", "strndup" } do
        if line:find("%f[%w_.>]" .. name .. "%s*%(") and not line:find("[%.>]" .. name .. "%s*%(") then
          report(path, number, name .. "() goes round the injected allocator")
        end
      end
      for _, name in ipairs { "rand", "srand", "time", "clock", "getenv", "exit" } do
        if line:find("%f[%w_]" .. name .. "%s*%(") and not line:find("[%.>]" .. name .. "%s*%(")
          and not line:find("[%w_*]%s+%*?" .. name .. "%s*%([^)]*[%w_]+%s+%*?[%w_]+") then
          report(path, number, name .. "(): the core is told the time, the seed and its options")
        end
      end
    end
  end
end

-- Lua: the command, the drivers and the test helpers stand on the library, never under it; and no circles.
local EDGE = { "cli", "resty", "testing" }

local function edge_of(module)
  for _, name in ipairs(EDGE) do
    if module == "tidemill." .. name or module:find("^tidemill%." .. name .. "%.") then return name end
  end
end

local function check_lua()
  local requires = {}
  for _, path in ipairs(scan.files(root .. "/lua", "*.lua")) do
    local module = path:sub(#root + 6):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
    requires[module] = requires[module] or {}
    for number, line in ipairs(scan.lines(path)) do
      local code = line:gsub("%-%-.*", "")
      for target in code:gmatch("require%s*%(?%s*[\"']([%w_.]+)[\"']") do
        local edge = edge_of(target)
        if edge and edge_of(module) ~= edge then
          report(path, number, ("%s requires %s: the library does not stand on its edges"):format(module, target))
        end
        if (target:find("^ngx") or target:find("^resty")) and edge_of(module) ~= "resty" then
          report(path, number, ("%s requires %s: only tidemill.resty knows nginx"):format(module, target))
        end
        -- A require inside a function is deferred on purpose and closes no circle at load time.
        if code:find("^local") or code:find("^require") then
          requires[module][#requires[module] + 1] = { target = target, path = path, line = number }
        end
      end
    end
  end
  local state = {}
  local function visit(module, trail)
    state[module] = "open"
    for _, edge in ipairs(requires[module] or {}) do
      if state[edge.target] == "open" then
        report(edge.path, edge.line, "a circle of requires: " .. trail .. " -> " .. edge.target)
      elseif not state[edge.target] and requires[edge.target] then
        visit(edge.target, trail .. " -> " .. edge.target)
      end
    end
    state[module] = "done"
  end
  local modules = {}
  for module in pairs(requires) do modules[#modules + 1] = module end
  table.sort(modules)
  for _, module in ipairs(modules) do
    if not state[module] then visit(module, module) end
  end
end

local count = 0
for _, path in ipairs(scan.files(root .. "/csrc", "*.[ch]")) do
  count = count + 1
  check_c(path, path:sub(#root + 7))
end
check_lua()

for _, line in ipairs(violations) do print(line) end
print(("layers: %d C files, %d violations"):format(count, #violations))
os.exit(#violations == 0 and 0 or 1)
