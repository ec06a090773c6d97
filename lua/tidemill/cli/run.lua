-- `tidemill run SCRIPT|FOLDER…`: handler scripts as a service.
-- Every script is compiled before any of them runs, so that a mistake in one never leaves the others half started.

local core = require "tidemill.core"
local ui = require "tidemill.cli.ui"

local M = {
  summary = "Run handler scripts until SIGINT or SIGTERM.",
  description = "Runs handler scripts until SIGINT or SIGTERM. A script is a Lua file that is called with the bus; of "
    .. "a folder, every *.lua file directly in it, by name.",
}

function M.define(command, cli)
  command:argument("script", "Lua files, or folders of them."):args "+"
  cli.add_url(command, "memory:")
  cli.add_number(command, "--grace", "Seconds that running handlers get to finish at the end (default 10).", "S",
    0, 86400)
  cli.add_number(command, "--for", "Stop by itself after that many seconds.", "S", 0, 1e9):target "run_for"
  cli.add_number(command, "--wait", "Seconds to wait for a server that isn't there yet (default 5).", "S", 0, 1e9)
    :default "5":show_default(false)
  command:option("--name", "How this process names itself to the server."):argname "NAME"
  cli.add_max_payload(command)
  command:flag("--check", "Compile the scripts and stop.")
end

-- ---- finding and compiling ----

local function quote(path)
  return "'" .. path:gsub("'", "'\\''") .. "'"
end

-- The scripts of a folder by name, or nil when the path isn't a folder. Links are followed; hidden files are not ours.
local function folder_scripts(path)
  local status = os.execute("test -d " .. quote(path))
  if not (status == true or status == 0) then return nil end
  if path:sub(1, 1) == "-" then path = "./" .. path end
  local command = "find -L %s -maxdepth 1 -type f -name '*.lua' -print0 2>/dev/null"
  local pipe = io.popen(command:format(quote(path)))
  local listing = pipe:read "*a"
  pipe:close()
  local found = {}
  for name in listing:gmatch "[^%z]+" do
    if not name:find "/%.[^/]*$" then found[#found + 1] = name end
  end
  table.sort(found)
  return found
end

local function read(path)
  local file, err = io.open(path, "rb")
  if not file then return nil, (err:gsub("^.-: ", "")) end
  local text, read_err = file:read "*a"
  file:close()
  if not text then return nil, read_err or "it cannot be read" end
  return text
end

-- A chunk, or nil and one line that names file and line.
local function compile(path)
  local text, err = read(path)
  if not text then return nil, ("%s: %s"):format(path, err) end
  text = text:gsub("^\239\187\191", ""):gsub("^#[^\n]*", "")
  if text:byte(1) == 27 then return nil, path .. ": it is bytecode; only Lua source is run" end
  return load(text, "@" .. path, "t")
end

local function collect(paths)
  local scripts = {}
  for _, path in ipairs(paths) do
    local folder = folder_scripts(path)
    if folder and #folder == 0 then ui.fail(ui.FAILURE, ("%s: no *.lua file in this folder"):format(path)) end
    for _, file in ipairs(folder or { path }) do scripts[#scripts + 1] = { path = file } end
  end
  local broken
  for _, script in ipairs(scripts) do
    local err
    script.chunk, err = compile(script.path)
    if not script.chunk then
      ui.note("%s", err)
      broken = true
    end
  end
  if broken then ui.fail(ui.FAILURE, "nothing was started") end
  return scripts
end

-- Scripts may `require` what lies beside them.
local function add_script_folders(scripts)
  local seen = {}
  for _, script in ipairs(scripts) do
    local folder = script.path:match "^(.*)/[^/]*$" or "."
    if not seen[folder] then
      seen[folder] = true
      package.path = package.path .. (";%s/?.lua;%s/?/init.lua"):format(folder, folder)
    end
  end
end

-- ---- running ----

local function traceback(err)
  if type(err) == "table" and err.code then return tostring(err) end
  if type(err) ~= "string" then
    -- A broken __tostring must not hide which script it was.
    local ok, text = pcall(tostring, err)
    local says = ok and type(text) == "string" and not text:find "^%a+: 0?x?%x+$" -- an address says nothing
    return ("an error that is a %s%s"):format(type(err), says and ": " .. text or "")
  end
  -- Lua lists every file that it has looked for, a line each.
  local missing = err:match "^(.-module '.-' not found):\n"
  if missing then return missing .. " (beside the scripts, or where LUA_PATH and LUA_CPATH say)" end
  return err
end

local function start(bus, scripts)
  for _, script in ipairs(scripts) do
    local ok, err, why = xpcall(script.chunk, traceback, bus)
    if ok and err == nil and why ~= nil then
      ok, err = false, traceback(why)
    end
    if not ok then
      bus:close()
      if err:find "interrupted!$" then ui.fail(ui.INTERRUPTED) end
      local place = err:find(script.path, 1, true) and "" or script.path .. ": "
      ui.fail(ui.FAILURE, place .. err)
    end
  end
end

-- Asks the server one question; waits for one that isn't up yet.
local function await_server(bus, seconds)
  local deadline = core.monotonic() + seconds
  local said = false
  local function stop(err)
    bus:close()
    ui.fail_with(err)
  end
  local function look(err)
    if not err.retryable or ui.exit_of(err) ~= ui.UNREACHABLE then stop(err) end
    if core.monotonic() >= deadline then stop(err) end
    if not said then
      said = true
      ui.note("%s; waiting up to %g s for it", tostring(err), seconds)
    end
  end
  while true do
    local done, server, err
    bus:spawn(function()
      server, err = bus:server()
      done = true
    end)
    while not done do
      bus:tick(0.05, { wait = true })
      local ok, why = bus:state()
      -- A connection under way is waited for as long as connecting may take.
      if not done and not ok and why.code ~= "TIDE-DISCONNECTED" and core.monotonic() >= deadline then stop(why) end
    end
    if server then return end
    look(err)
    bus:sleep(0.25)
  end
end

function M.run(options, cli)
  local scripts = collect(options.script)
  if options.check then
    for _, script in ipairs(scripts) do ui.write(script.path, ": compiles\n") end
    return ui.OK
  end
  add_script_folders(scripts)
  local url, is_default = cli.url(options, "memory:")
  if is_default then ui.note "no --url and no TIDEMILL_URL: running on memory:, where events end with this process" end
  local bus = cli.open(url, options, {
    name = options.name or "tidemill-run", grace = options.grace, max_payload = options.max_payload,
  })
  await_server(bus, options.wait)
  io.stdout:setvbuf "line"
  start(bus, scripts)
  if #bus.order == 0 and #bus.spawned == 0 then
    bus:close()
    ui.note "no script subscribed to anything: done"
    return ui.OK
  end
  ui.note("running %d script%s on %s", #scripts, #scripts == 1 and "" or "s", bus.url)
  local ok, err = bus:run(options.run_for)
  bus:close()
  if not ok and err.code ~= "TIDE-TIMEOUT" then ui.fail_with(err) end
  -- Out of time: what was running has been given back and comes again, nothing is lost.
  ui.note("stopped%s", ok and "" or ": " .. err.message)
  return ui.OK
end

return M
