-- What the tools of this folder share: listing files, reading them, and finding declarations and their comments.
local M = {}

--- The lines of a file, without their ends.
function M.lines(path)
  local lines = {}
  for line in assert(io.open(path)):lines() do lines[#lines + 1] = (line:gsub("\r$", "")) end
  return lines
end

--- The files under `folder` whose names match the shell pattern, sorted; none if there is no such folder.
function M.files(folder, pattern)
  local files = {}
  local pipe = assert(io.popen("find '" .. folder .. "' -type f -name '" .. pattern .. "' 2>/dev/null | LC_ALL=C sort"))
  for line in pipe:lines() do files[#files + 1] = line end
  pipe:close()
  return files
end

-- The comment that ends right above `index`, as a list of lines without markers, or nil.
local function c_comment_above(lines, index)
  local last = index - 1
  if not (lines[last] or ""):find("%*/%s*$") then return nil end
  local first = last
  while first > 1 and not lines[first]:find("/%*") do first = first - 1 end
  local text = {}
  for i = first, last do
    local line = lines[i]:gsub("^%s*/%*+%s?", ""):gsub("%s*%*+/%s*$", ""):gsub("^%s*%*%s?", "")
    if line ~= "" or #text > 0 then text[#text + 1] = line end
  end
  return text
end

--- The function declarations of a C header: { name, line, text, comment = list or nil }.
function M.c_functions(path)
  local lines, found = M.lines(path), {}
  local depth, in_comment, in_macro, start = 0, false, false, nil
  local statement = ""
  for index, line in ipairs(lines) do
    local code = line
    if in_comment then
      local stop = code:find("*/", 1, true)
      code = stop and code:sub(stop + 2) or ""
      in_comment = not stop
    end
    code = code:gsub("/%*.-%*/", " "):gsub("//.*", "")
    local open = code:find("/*", 1, true)
    if open then
      code, in_comment = code:sub(1, open - 1), true
    end
    if in_macro or code:find("^%s*#") then
      in_macro = code:find("\\%s*$") ~= nil
    elseif code:find('^%s*extern%s+"C"%s*{') then
      statement = ""
    else
      if depth == 0 and statement == "" and code:find("%S") then start = index end
      local opened = select(2, code:gsub("{", ""))
      local closed = select(2, code:gsub("}", ""))
      if depth == 0 and opened == 0 and code:find("%S") and not code:find("^%s*}") then
        statement = statement .. code .. "\n"
      end
      depth = depth + opened - closed
      if depth < 0 then depth = 0 end
      if opened > 0 then statement = "{" end
      if depth == 0 and (code:find(";%s*$") or code:find("}%s*$")) then
        local text = statement
        local name = text:match("([%a_][%w_]*)%s*%(")
        if name and text:find("%)[^)]*;%s*$") and not text:find("^%s*typedef") and not text:find("^%s*{")
          and not text:find("^%s*struct%s+[%w_]+%s*;") then
          found[#found + 1] = {
            name = name, line = start, text = (text:gsub("%s+$", "")), comment = c_comment_above(lines, start),
          }
        end
        statement = ""
      end
    end
  end
  return found
end

--- The exported functions of a Lua file: { name, line, text, comment = list or nil }: those of M, of methods, of a
--- class (a capital) and of what the file returns. A name with a leading underscore is private.
function M.lua_functions(path)
  local lines, found = M.lines(path), {}
  local exported = { M = true, methods = true }
  for _, line in ipairs(lines) do
    local name = line:match("^return%s+([%a_][%w_]*)%s*$")
    if name then exported[name] = true end
  end
  for index, line in ipairs(lines) do
    local name = line:match("^function%s+([%a_][%w_]*[.:][%w_.:]+)")
      or line:match("^([%a_][%w_]*%.[%w_]+)%s*=%s*function")
    local owner = name and name:match("^[%w_]+")
    if name and not name:find("[.:]_") and (exported[owner] or owner:find("^%u")) then
      local comment
      if (lines[index - 1] or ""):find("^%-%-%-") then
        local first = index - 1
        while first > 1 and lines[first - 1]:find("^%-%-") do first = first - 1 end
        comment = {}
        for i = first, index - 1 do comment[#comment + 1] = (lines[i]:gsub("^%-%-%-?%s?", "")) end
      end
      found[#found + 1] = {
        name = name, line = index, comment = comment,
        text = (line:gsub("^function%s+", ""):gsub("%s*=%s*function", "")),
      }
    end
  end
  return found
end

--- The comment that opens a file (C block or Lua lines), as a list of lines; SPDX lines left out.
function M.head_comment(path)
  local text = {}
  if path:find("%.lua$") then
    for _, line in ipairs(M.lines(path)) do
      if not line:find("^%-%-") then
        if line:find("%S") or #text > 0 then break end
      elseif not line:find("SPDX") and not line:find("^%-%-%-?@") then
        text[#text + 1] = (line:gsub("^%-%-+%s?", ""))
      end
    end
    return text
  end
  local inside = false
  for _, line in ipairs(M.lines(path)) do
    if not inside and line:find("^/%*") and not line:find("SPDX") then inside = true end
    if inside then
      local last = line:find("%*/")
      local plain = line:gsub("^%s*/%*+%s?", ""):gsub("%s*%*+/.*$", ""):gsub("^%s*%*%s?", "")
      if plain ~= "" or #text > 0 then text[#text + 1] = plain end
      if last then break end
    end
  end
  return text
end

return M
