-- The common subset of Lua 5.1 (LuaJIT) and 5.4: only what both know is a known global.
std = "min"
max_line_length = 120
codes = true
cache = false
self = false
exclude_files = { "build/**", "build-*/**" }

-- What only one of the two has, and what portable code asks for before it uses it; the specs run on both.
read_globals = {
  "jit", "unpack", "loadstring", "setfenv", "utf8", "rawlen",
  math = { fields = { "type", "tointeger" } },
  table = { fields = { "unpack", "pack", "move" } },
}

files["spec/"] = { std = "min+busted" }
files["tools/"] = { std = "lua54" }
files["**/*.rockspec"] = { std = "rockspec" }
files["lua/tidemill/resty/"] = { read_globals = { "ngx" } }
files[".luacheckrc"] = { std = "luacheckrc" }
