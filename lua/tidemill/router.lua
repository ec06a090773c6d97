--- Which handler an event type goes to: the exact type, else the longest prefix pattern ("pull_request.*"), else "*".
local M = {}

local methods = {}
local mt = { __name = "tidemill.Router", __index = methods }

-- Types come from the world: how many of them the lookup remembers.
local REMEMBERED_MAX = 1000

--- A new, empty router. `lookup` is a table from type to what was added, for hot paths: a miss is answered by
-- `router:find(type)`, which fills it.
---@return tidemill.Router
function M.new()
  return setmetatable({ exact = {}, prefixes = {}, any = nil, lookup = {}, remembered = 0, count = 0 }, mt)
end

--- Splits a pattern. nil and the reason when it is none.
---@param pattern string  "OrderPlaced", "pull_request.*", "order*", "*"
---@return string? kind   "exact", "prefix" or "any"
---@return string prefix  what comes before the star, or the reason
function M.parse(pattern)
  if type(pattern) ~= "string" then
    return nil, "an event type or pattern must be a string, got " .. type(pattern)
  elseif pattern == "" then
    return nil, "an event type cannot be empty"
  elseif #pattern > 512 then
    return nil, "an event type cannot be longer than 512 bytes"
  elseif pattern:find "%c" then
    return nil, "an event type cannot have control characters"
  elseif pattern == "*" then
    return "any", ""
  end
  local star = pattern:find("*", 1, true)
  if not star then
    return "exact", pattern
  elseif star == #pattern then
    return "prefix", pattern:sub(1, -2)
  end
  return nil, ("pattern '%s': a star can only be its last character"):format(pattern)
end

local function forget(self)
  -- In place: hot paths hold the table.
  for kind in pairs(self.lookup) do
    self.lookup[kind] = nil
  end
  self.remembered = 0
end

--- Adds a route. nil and the reason when the pattern is bad or taken.
---@param pattern string
---@param route any
---@return boolean? ok
---@return string? reason
function methods:add(pattern, route)
  local kind, prefix = M.parse(pattern)
  if not kind then
    return nil, prefix
  end
  local taken = ("'%s' has a handler already"):format(pattern)
  if kind == "exact" then
    if self.exact[pattern] then
      return nil, taken
    end
    self.exact[pattern] = route
  elseif kind == "any" then
    if self.any then
      return nil, taken
    end
    self.any = route
  else
    for _, known in ipairs(self.prefixes) do
      if known.prefix == prefix then
        return nil, taken
      end
    end
    local at = 1
    while self.prefixes[at] and #self.prefixes[at].prefix >= #prefix do
      at = at + 1
    end
    table.insert(self.prefixes, at, { prefix = prefix, route = route }) -- the longest first
  end
  self.count = self.count + 1
  forget(self)
  return true
end

--- Takes a route out.
---@param pattern string
---@return boolean whether it was there
function methods:remove(pattern)
  local kind, prefix = M.parse(pattern)
  local was = false
  if kind == "exact" then
    was = self.exact[pattern] ~= nil
    self.exact[pattern] = nil
  elseif kind == "any" then
    was = self.any ~= nil
    self.any = nil
  else
    for i, known in ipairs(self.prefixes) do
      if known.prefix == prefix then
        table.remove(self.prefixes, i)
        was = true
        break
      end
    end
  end
  if was then
    self.count = self.count - 1
    forget(self)
  end
  return was
end

--- The route of a type; false when there is none. Remembers the answer in `lookup`.
---@param kind string an event's type; "" for an entry without one: only "*" takes it
---@return any
function methods:find(kind)
  local route = self.lookup[kind]
  if route ~= nil then
    return route
  end
  route = self.exact[kind]
  if not route and kind ~= "" then
    for _, known in ipairs(self.prefixes) do
      if kind:sub(1, #known.prefix) == known.prefix then
        route = known.route
        break
      end
    end
  end
  route = route or self.any or false
  if self.remembered >= REMEMBERED_MAX then
    forget(self)
  end
  self.remembered = self.remembered + 1
  self.lookup[kind] = route
  return route
end

return M
