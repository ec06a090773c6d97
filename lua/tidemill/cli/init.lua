-- The command `tidemill`: reads the arguments, picks the command (a file each beside this one), turns every outcome
-- into one line and an exit code.

local argparse = require "argparse"
local nearest_name = require("tidemill.options").nearest
local ui = require "tidemill.cli.ui"

local M = {}

local COMMANDS = { "run", "publish", "tail", "info", "doctor", "migrate", "version", "help" }

M.DEFAULT_URL = "redis://127.0.0.1:6379"

-- Where the explanations in the help begin.
local MARGIN = ui.width(100) < 72 and 16 or 28

-- ---- the nearest name ----

--- The most similar of `names` (or the only one that begins with `word`), nil when none is similar.
function M.nearest(word, names)
  local beginning
  for _, name in ipairs(names) do
    if #word > 2 and name:sub(1, #word) == word then
      if beginning then
        beginning = nil
        break
      end
      beginning = name
    end
  end
  return beginning or nearest_name(word, names)
end

-- ---- arguments ----

local function command_module(name)
  return require("tidemill.cli." .. name)
end

local function option_names(parser)
  local names = {}
  for _, option in ipairs(parser._options) do
    for _, alias in ipairs(option._aliases) do
      if alias:sub(1, 2) == "--" then names[#names + 1] = alias end
    end
  end
  return names
end

local help_wanted = {}

local function add_help(parser)
  parser:add_help(false)
  parser:flag("-h --help", "Show this help."):action(function() error(help_wanted, 0) end)
end

local function build(program)
  local parser = argparse(program, "An event bus whose handlers are Lua scripts.")
  parser:add_help(false)
  parser:require_command(false)
  parser:command_target "command"
  parser:flag("-h --help", "Show this help."):action(function() error(help_wanted, 0) end)
  parser:flag("-V --version", "Show the version."):target "show_version"
  local width = ui.width(100)
  parser:usage_max_width(width):help_max_width(width)
  parser:help_description_margin(MARGIN)
  parser:epilog(("URL: --url, or TIDEMILL_URL, or %s (run: memory:).\n"):format(M.DEFAULT_URL)
    .. "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 server or file out of reach.\n"
    .. "More: tidemill help urls, scripts, exit-codes, environment")
  local commands = {}
  for _, name in ipairs(COMMANDS) do
    local module = command_module(name)
    local command = parser:command(name):summary(module.summary):description(module.description or module.summary)
    command:usage_max_width(width):help_max_width(width)
    command:help_description_margin(MARGIN)
    add_help(command)
    module.define(command, M)
    commands[name] = command
  end
  return parser, commands
end

--- The help of a parser: argparse's, but for the two names of an option with a value, which it sets below each other.
function M.help_of(parser)
  local lines = {}
  for line in (parser:get_help() .. "\n"):gmatch "([^\n]*)\n" do
    local short, argname, first = (lines[#lines] or ""):match "^ +(%-%a) (%S+),%s*(.*)$"
    local long, same, second = line:match "^ +(%-%-%S+) (%S+)%s*(.*)$"
    if short and argname == same then
      local names = ("   %s, %s %s"):format(short, long, argname)
      local gap = #names < MARGIN and (" "):rep(MARGIN - #names) or "\n" .. (" "):rep(MARGIN)
      lines[#lines] = names .. gap .. first
      line = second ~= "" and (" "):rep(MARGIN) .. second or nil
    end
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\n")
end

--- The option every command that talks to a server has.
function M.add_url(command, default)
  local text = ("Where the events live (default: TIDEMILL_URL, else %s)."):format(default or M.DEFAULT_URL)
  command:option("-u --url", text):argname "URL"
  command:flag("--insecure", "TLS: don't check the server's certificate.")
end

--- The option of every command that can print JSON.
function M.add_json(command, text)
  command:flag("--json", text or "Print JSON.")
end

--- Adds an option whose value is a number from `low` to `high`, a whole one when `whole` says so.
function M.add_number(command, names, text, argname, low, high, whole)
  local name = names:match "%-%-%S+"
  local function shown(number) return number % 1 == 0 and ("%.0f"):format(number) or tostring(number) end
  local function convert(word)
    local number = tonumber(word)
    if word:find "[xXnN]" then number = nil end -- hexadecimal, inf, nan
    word = ui.escape(word, 60)
    if not number then return nil, ("%s: '%s' is not a number"):format(name, word) end
    if number < low or number > high then
      return nil, ("%s: %s is not between %s and %s"):format(name, word, shown(low), shown(high))
    end
    if whole and number ~= math.floor(number) then
      return nil, ("%s: %s is not a whole number"):format(name, word)
    end
    return number
  end
  return command:option(names, text):argname(argname):convert(convert)
end

--- The option of every command that publishes.
function M.add_max_payload(command)
  M.add_number(command, "--max-payload", "Most bytes of one event's data (default 1048576).", "BYTES", 1, 2 ^ 29, true)
end

-- The option in front of a word that argparse took for another option, when it is one that wants a value.
local function option_before(parser, word, args)
  for _, option in ipairs(parser._options) do
    for _, alias in ipairs(option._aliases) do
      for index = 2, #args do
        if args[index] == word and args[index - 1] == alias and option._argname then return alias end
      end
    end
  end
end

-- argparse's own words, made one line, with the nearest name for whatever isn't known.
local function usage_failure(program, parser, message, args)
  message = message:gsub("\nDid you mean.*$", ""):gsub("%s*\n%s*", " ")
  local unknown = message:match "unknown option '(.-)'$"
  local tip
  if unknown then
    tip = M.nearest(unknown, option_names(parser))
  else
    unknown = message:match "unknown command '(.-)'$"
    if unknown then tip = M.nearest(unknown, COMMANDS) end
  end
  if unknown and unknown:find "^%-[%d.]" then
    local option = option_before(parser, unknown, args)
    message = option and ("%s can't be negative, and is '%s'"):format(option, unknown)
      or message .. " (a negative number goes behind --)"
    tip = nil
  end
  if tip then message = ("%s (did you mean '%s'?)"):format(message, tip) end
  local name = parser._name ~= program and " " .. parser._name or ""
  ui.fail(ui.USAGE, ("%s; see tidemill%s --help"):format(message, name))
end

-- Arguments that argparse would take for options: "-5", a lone value after `--` … it handles `--` itself. A NUL can't
-- reach us; bytes that aren't text are shown escaped by ui.note.
local function parse(parser, program, args)
  local current = parser
  local ok, result = pcall(parser._parse, parser, args, function(where, message)
    current = where
    usage_failure(program, where, message, args)
  end)
  if ok then return result end
  if result == help_wanted then
    -- The last command named before --help is the one meant.
    local name
    for _, word in ipairs(args) do
      if word == "--" then break end
      if not name and word:sub(1, 1) ~= "-" then name = word end
    end
    return { help = true, command = name, where = current }
  end
  error(result, 0)
end

--- The URL a command works on.
function M.url(options, default)
  local url = options.url
  if not url or url == "" then url = os.getenv "TIDEMILL_URL" end
  if not url or url == "" then return default or M.DEFAULT_URL, true end
  return url, false
end

--- Opens a bus, or ends the command.
function M.open(url, options, more)
  local tidemill = require "tidemill"
  local settings = { name = "tidemill-cli" }
  for name, value in pairs(more or {}) do settings[name] = value end
  if options.insecure then settings.insecure = true end
  local bus, err = M.checked(tidemill.open, url, settings)
  if not bus and err.code == "TIDE-UNSUPPORTED" then ui.fail(ui.USAGE, tostring(err)) end
  if not bus then ui.fail_with(err) end
  return bus
end

--- Calls a function that raises when it is misused (an option, a name); what it says is then a matter of usage.
function M.checked(call, ...)
  local ok, result, err = pcall(call, ...)
  if ok then return result, err end
  if type(result) ~= "string" then error(result, 0) end
  ui.fail(ui.USAGE, (result:gsub("^[^:]*:%d+: ", ""):gsub("^[%w_.:]*%w: ", "", 1)))
end

--- A topic of a bus, or the end of the command when the name can't be one.
function M.topic(bus, name)
  return M.checked(bus.topic, bus, name)
end

--- Ends the command when a stream can't have that name; with `to_write`, also when it is one of tidemill's own.
function M.check_topic(name, to_write)
  if to_write then M.checked(require("tidemill.names").check, "topic", "topic name", name, 1) end
  local trouble = require("tidemill.names").trouble(name)
  if trouble then ui.fail(ui.USAGE, ("the topic name %s"):format(trouble)) end
end

--- Ends a command that only reads when its file isn't there: opening would create it.
---@param url string
---@param what? string  put in front
function M.check_file(url, what)
  local path = url:match "^file:([^?#]*)"
  if not path or path == "" then return end
  path = path:gsub("^//(/)", "%1"):gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
  local file, err = io.open(path, "rb")
  if not file then ui.fail(ui.UNREACHABLE, (what and what .. ": " or "") .. err) end
  file:close()
end

local function silent() end

-- What a server that is no server of ours gives itself away by: refusals that come at once, and would come again.
local HOPELESS = { ["TIDE-CONNECT"] = true, ["TIDE-TLS"] = true, ["TIDE-PROTOCOL"] = true }
local IS_IT = "is this a Redis or Valkey server?"

-- What to say behind an error of the first question.
local function hint_of(err, hint)
  if err.code == "TIDE-CONNECT" then return hint end
  if err.code == "TIDE-PROTOCOL" then return IS_IT end
  -- Connected, and not a word came.
  if err.code == "TIDE-DISCONNECTED" and err.message:find "nothing was written$" then return "no answer; " .. IS_IT end
end

--- Opens a bus and asks the server one question. The library would try again until its time limit; somebody who waits
-- at a prompt hears of the first refusal at once.
---@param url string
---@param options table  of the command; max_payload when it has one
---@param what? string   put in front of an error
---@param hint? string   put behind the error that nobody answers
---@return tidemill.Bus bus
---@return table server
function M.connect_to(url, options, what, hint)
  local bus = M.open(url, options, { log = silent, max_payload = options.max_payload })
  local server, err
  local done = false
  bus:spawn(function()
    server, err = bus:server()
    done = true
  end)
  while not done do
    bus:tick(0.02, { wait = true })
    local ok, why = bus:state()
    if not done and not ok and HOPELESS[why.code] then
      err = why
      done = true
    end
  end
  if not server then
    bus:close()
    ui.fail_with(err, what, hint_of(err, hint))
  end
  return bus, server
end

--- The same for the URL of the command's options.
---@param options table
---@param reads_only? boolean  a file that isn't there is an error
function M.connect(options, reads_only)
  local url, is_default = M.url(options)
  if reads_only then
    M.open(url, options):close()
    M.check_file(url)
  end
  return M.connect_to(url, options, nil, is_default and "--url or TIDEMILL_URL names another server, or a file:PATH")
end

-- ---- the way out ----

local function on_error(err)
  if ui.is_failure(err) or err == help_wanted then return err end
  if type(err) == "string" and err:find "interrupted!$" then return ui.interrupted end
  local missing = type(err) == "string" and err:match "module '([^\n]-)' not found:\n"
  if missing == "tidemill.core" then
    return ui.failure(ui.FAILURE, "its C module tidemill.core is not found; in the source tree ./dev build makes it, "
      .. "elsewhere LUA_CPATH says where it is")
  end
  return { crash = tostring(err), trace = debug.traceback("", 2) }
end

ui.interrupted = {}

local function dispatch(args)
  local program = "tidemill"
  local parser, commands = build(program)
  local options = parse(parser, program, args)
  if options.help then
    local command = commands[options.command]
    ui.write(M.help_of(command or parser), "\n")
    return ui.OK
  end
  if options.show_version then return command_module("version").run({}, M) end
  if not options.command then
    io.stderr:write(M.help_of(parser), "\n")
    return ui.USAGE
  end
  return command_module(options.command).run(options, M, commands, parser)
end

--- Runs the command. Never raises.
---@param args string[] the words after the program's name
---@return integer exit code
function M.main(args)
  local ok, result = xpcall(dispatch, on_error, args)
  local code = ok and (result or ui.OK)
  if not ok then
    ui.clear_progress()
    if result == ui.interrupted then
      code = ui.INTERRUPTED
    elseif ui.is_failure(result) then
      code = result.exit
      if result.message then ui.note("%s", result.message) end
    else
      code = ui.FAILURE
      ui.note("a mistake in tidemill: %s", result.crash)
      io.stderr:write(ui.escape(result.trace):gsub("\\n", "\n"):gsub("\\t", "  "), "\n")
    end
  end
  -- What is still in the buffer may meet a full disk or a closed pipe, too.
  local flushed, err = pcall(ui.flush)
  if not flushed and code == ui.OK then
    code = err.exit or ui.FAILURE
    if err.message then ui.note("%s", err.message) end
  end
  return code
end

return M
