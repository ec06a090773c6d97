-- SPDX-License-Identifier: MIT
-- The 329 real GitHub webhook payloads of the npm package @octokit/webhooks-examples, for specs.

local M = {}

local PLACES = {
  "node_modules/@octokit/webhooks-examples/api.github.com/index.json",
  "build/webhooks/package/api.github.com/index.json",
}

--- Path of the package's api.github.com/index.json; nil and a reason when it isn't here.
function M.path()
  local named = os.getenv "TIDEMILL_WEBHOOKS"
  if named and named ~= "" then return named end
  for _, place in ipairs(PLACES) do
    local file = io.open(place, "rb")
    if file then
      file:close()
      return place
    end
  end
  return nil, "TIDEMILL_WEBHOOKS does not name @octokit/webhooks-examples' index.json (./dev setup fetches it)"
end

return M
