-- `tidemill help [COMMAND|TOPIC]`.

local ui = require "tidemill.cli.ui"

local M = { summary = "Explain a command or a topic." }

local TOPICS = {
  urls = [[
URLs
  memory:                              in memory, gone with the process
  file:orders.db                       a file; several processes may share it
  redis://[user:password@]host[:port][/db][?option=value&…]
  valkey://…                           the same
  rediss://…  valkeys://…              with TLS; ?ca=FILE names the authority
  unix:/run/valkey.sock                a unix socket
  Escape special characters in user and password (@ is %40, : is %3A, / is %2F), or write ?password_file=FILE:
  the password is read from there for each connection, so that it can change while we run.
]],
  ["exit-codes"] = [[
Exit codes
  0    done (doctor: nothing to complain about but warnings)
  1    failed: a script with an error, an event that was refused, doctor found something wrong
  2    wrong usage: unknown option, missing argument, URL that isn't one
  3    the server or file is out of reach: can't connect, wrong password, missing permission,
       read-only, damaged file
  130  interrupted
  141  whoever read our output went away
  143  ended by SIGTERM (run: 0, when what was running has finished)
]],
  environment = [[
Environment
  TIDEMILL_URL       the URL when --url isn't given
  NO_COLOR           no colours (there are none off a terminal anyway)
  TIDEMILL_LUA_DIR   where the command finds tidemill's Lua files (the folder that has tidemill/cli/init.lua)
]],
  scripts = [[
Scripts
  A script is a Lua file, called with the bus:

    local bus = ...
    local orders = bus:topic "orders"
    orders:on("OrderPlaced", { group = "billing", retry = { max = 5 } }, function(event)
      print(event.aggregate_id, event.data.total)      -- returning acknowledges the event
    end)

  An error, or `return nil, reason`, is a failure: the event comes again by the retry policy and goes to the
  dead letters after the last attempt.
]],
}

function M.define(command)
  command:argument("topic", "A command, or one of: urls, scripts, exit-codes, environment."):args "?"
end

function M.run(options, cli, commands, parser)
  local topic = options.topic
  if not topic then
    ui.write(cli.help_of(parser), "\n")
  elseif commands[topic] then
    ui.write(cli.help_of(commands[topic]), "\n")
  elseif TOPICS[topic] then
    ui.write(TOPICS[topic])
  elseif topic == "topics" then
    ui.write "Topics: urls, scripts, exit-codes, environment (tidemill help TOPIC)\n"
  else
    local names = { "topics" }
    for name in pairs(commands) do names[#names + 1] = name end
    for name in pairs(TOPICS) do names[#names + 1] = name end
    table.sort(names)
    local tip = cli.nearest(topic, names)
    ui.fail(ui.USAGE, ("no help on '%s'%s"):format(topic, tip and (" (did you mean '%s'?)"):format(tip) or ""))
  end
  return ui.OK
end

return M
