-- Handlers for GitHub webhooks: a script, called with the bus. It runs by `tidemill run examples/webhooks/handlers.lua`
-- and inside main.lua, which reads the counts that it returns.

local bus = ...
local tidemill = require "tidemill"

local webhooks = bus:topic("webhooks", { group = "desk" })

-- What was done, by event id: an event that comes twice (after a crash, say) is counted once.
local done = {}       -- event id → name of the handler that finished it
local attempts = {}   -- event id → how often a handler saw it

local function finish(handler, event)
  done[event.id] = handler
end

local function saw(event)
  attempts[event.id] = (attempts[event.id] or 0) + 1
end

-- Exact type. All handlers of a topic and group share one subscription: the first one says for all of them that eight
-- events may be handled at once.
local commits = 0
webhooks:on("push", { concurrency = 8 }, function(event)
  saw(event)
  commits = commits + #(event.data.commits or {})
  finish("push", event)
end)

-- A pattern: pull_request.opened, pull_request.closed …
local pull_requests = {}
webhooks:on("pull_request.*", function(event)
  saw(event)
  local number = event.data.number
  pull_requests[number] = (pull_requests[number] or 0) + 1
  finish("pull_request.*", event)
end)

webhooks:on("issues.*", function(event)
  saw(event)
  assert(event.data.issue.title, "an issue without a title")
  finish("issues.*", event)
end)

-- A service that is down at first: each event fails once, is retried a moment later, and then succeeds.
webhooks:on("check_run.*", { retry = { max = 5, backoff = "fixed", delay = 0.05 } }, function(event)
  saw(event)
  if event.attempt == 1 then
    return nil, "the build server does not answer"
  end
  finish("check_run.*", event)
end)

-- A service that stays down: three attempts, then the event goes to the dead letters.
webhooks:on("code_scanning_alert.*", { retry = { max = 3, backoff = "exponential", delay = 0.02 } }, function(event)
  saw(event)
  error("no analyser for " .. tostring(event.data.alert and event.data.alert.tool and event.data.alert.tool.name))
end)

-- Not worth a retry: rejected to the dead letters at once, with the reason.
webhooks:on("security_advisory.withdrawn", function(event)
  saw(event)
  return tidemill.reject "the advisory was withdrawn"
end)

-- Whatever no other handler wants.
webhooks:on("*", function(event)
  saw(event)
  finish("*", event)
end)

return { topic = webhooks, done = done, attempts = attempts, commits = function() return commits end }
