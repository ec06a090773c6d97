local M = { summary = "Copy topics from one engine to another." }
function M.define() end
function M.run() return 1 end
return M
