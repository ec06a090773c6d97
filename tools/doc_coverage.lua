-- Every function of the public headers and every exported Lua function has its contract right above it.
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua;" .. package.path
local scan = require "scan"

local root = arg[1] or "."
local count, missing = 0, 0

-- Each file of a command has the same two functions; lua/tidemill/cli/init.lua says once what they are.
local function is_command(path, name)
  return path:find("/cli/") and (name == "M.define" or name == "M.run")
end

local function check(path, functions, what)
  for _, item in ipairs(functions) do
    count = count + 1
    if is_command(path, item.name) then
      item.comment = item.comment or { "as every command" }
    end
    if not item.comment or #item.comment == 0 then
      missing = missing + 1
      print(("%s:%d: %s has no %s above it"):format(path, item.line, item.name, what))
    end
  end
end

for _, path in ipairs(scan.files(root .. "/csrc/include/tidemill", "*.h")) do
  check(path, scan.c_functions(path), "comment")
end
for _, path in ipairs(scan.files(root .. "/lua/tidemill", "*.lua")) do
  check(path, scan.lua_functions(path), "--- annotation")
end

print(("documentation coverage: %d of %d functions"):format(count - missing, count))
os.exit(missing == 0 and 0 or 1)
