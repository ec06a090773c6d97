--- Values by the time they are due: a binary heap by (deadline, order of pushing), so that ties keep their order.
local M = {}

---@class tidemill.Timers
local methods = {}
local mt = { __name = "tidemill.Timers", __index = methods }

--- A new, empty heap.
---@return tidemill.Timers
function M.new()
  return setmetatable({ count = 0, sequence = 0 }, mt)
end

local function before(a, b)
  if a[1] ~= b[1] then
    return a[1] < b[1]
  end
  return a[2] < b[2]
end

--- Adds a value.
---@param deadline number  on whatever clock pop is asked with
---@param value any        not nil
function methods:push(deadline, value)
  self.sequence = self.sequence + 1
  local timer = { deadline, self.sequence, value }
  local i = self.count + 1
  self[i] = timer -- the only step that takes memory, before anything has changed
  self.count = i
  while i > 1 do
    local parent = (i - i % 2) / 2
    if not before(timer, self[parent]) then
      break
    end
    self[i] = self[parent]
    i = parent
  end
  self[i] = timer
end

--- The earliest deadline; nil when there is none.
---@return number?
function methods:first()
  return self[1] and self[1][1]
end

--- Takes out the earliest value that is due; nil when there is none.
---@param now number
---@return any?
function methods:pop(now)
  local first = self[1]
  if not first or first[1] > now then
    return nil
  end
  local count = self.count
  local last = self[count]
  self[count] = nil
  count = count - 1
  self.count = count
  local i = 1
  while 2 * i <= count do
    local child = 2 * i
    if child < count and before(self[child + 1], self[child]) then
      child = child + 1
    end
    if not before(self[child], last) then
      break
    end
    self[i] = self[child]
    i = child
  end
  if count > 0 then
    self[i] = last
  end
  return first[3]
end

return M
