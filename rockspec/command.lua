-- The command as LuaRocks installs it; elsewhere it is csrc/cli/main.c.
os.exit(require("tidemill.cli").main(arg), true)
