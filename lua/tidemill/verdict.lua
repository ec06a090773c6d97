--- What a handler can return besides nothing: nack, reject, release.
local options = require "tidemill.options"
local misuse = require "tidemill.misuse"

local M = {}

-- Numbers of tide_verdict_kind.
M.ACK, M.FAIL, M.NACK, M.REJECT, M.RELEASE, M.EXTEND = 0, 1, 2, 3, 4, 5

local mt = { __name = "tidemill.Verdict" }
M.metatable = mt

local nack_rules = { delay = { "seconds", default = 0 } }

--- "Again later": counted as an attempt, dead-lettered after the last.
---@param given { delay: number? }?  delay in seconds, default 0
---@return tidemill.Verdict
function M.nack(given)
  local checked = options.check("tidemill.nack", given, nack_rules)
  return setmetatable({ kind = M.NACK, delay_ms = options.ms(checked.delay) }, mt)
end

--- "To the dead letters at once."
---@param reason string?  kept with the dead letter; default "rejected"
---@return tidemill.Verdict
function M.reject(reason)
  if reason ~= nil and type(reason) ~= "string" then
    misuse("tidemill.reject: the reason must be a string, got " .. type(reason))
  end
  return setmetatable({ kind = M.REJECT, reason = reason or "rejected" }, mt)
end

local release = setmetatable({ kind = M.RELEASE }, mt)

--- "Give it back": anyone of the group may have it at once, the attempt doesn't count.
---@return tidemill.Verdict
function M.release()
  return release
end

return M
