-- SPDX-License-Identifier: MIT
-- What each engine can be asked to do, and why not where it cannot. A behaviour that needs a feature is skipped on an
-- engine with a reason here, and only then: `true` means it runs. `./dev test` prints this table with the results.
local alone = "a memory: engine lives in one process and ends with it"

return {
  engines = { "memory", "file", "redis", "valkey" },
  features = {
    { name = "core", what = "publish, subscribe, settle, retry, dead letters, the whole port",
      memory = true, file = true, redis = true, valkey = true },
    { name = "shared", what = "several buses on one store",
      memory = alone, file = true, redis = true, valkey = true },
    { name = "processes", what = "several processes on one store, killed and started",
      memory = alone, file = true, redis = true, valkey = true },
    { name = "reopen", what = "what was written is there after close and open",
      memory = alone, file = true, redis = true, valkey = true },
    { name = "restart", what = "the broker itself is stopped and started in the middle",
      memory = alone, file = "a file has no broker; `processes` kills its users", redis = true, valkey = true },
    { name = "wrongtype", what = "a key that holds another type than a stream",
      memory = "streams and values never meet here", file = "as memory:", redis = true, valkey = true },
  },
}
