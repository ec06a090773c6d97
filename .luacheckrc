-- The common subset of Lua 5.1 (LuaJIT) and 5.4: only what both know is a known global.
std = "min"
max_line_length = 120
codes = true
cache = false
self = false
exclude_files = { "build/**", "build-*/**" }

files["spec/"] = { std = "min+busted" }
files["spec/**/*_spec.lua"] = { std = "min+busted" }
files["rockspec/"] = { std = "rockspec" }
files["**/*.rockspec"] = { std = "rockspec" }
files["lua/tidemill/resty/"] = { read_globals = { "ngx" } }
files[".luacheckrc"] = { std = "luacheckrc" }
files["lua/tidemill/compat.lua"] = { std = "max" }
