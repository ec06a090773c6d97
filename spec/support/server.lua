-- SPDX-License-Identifier: MIT
-- Throwaway Redis and Valkey servers for Lua specs: on loopback, on a port of their own, with a folder of their own,
-- ended when the spec ends, however it ends.
--
--   local server = require "spec.support.server"
--   local s = server.start("valkey", { requirepass = "secret" })
--   s.url, s.port, s.pid, s.dir      s:cli("XLEN", "orders")      s:stop()
--
-- The installed redis-server and valkey-server are started, or the programs whose paths TIDEMILL_REDIS_SERVER and
-- TIDEMILL_VALKEY_SERVER name: so the specs run against any version.
--
-- Options: persist (append-only file, fsync always), requirepass, acl (text of an ACL file), unixsocket (true),
-- tls (true, or "wrong-host": a certificate for another name), maxmemory, maxmemory_policy, config (name = value …).

local shell = require "spec.support.shell"

local M = {}
local Server = {}
Server.__index = Server

local PROGRAMS = { redis = "redis-server", valkey = "valkey-server" }
local NAMED = { ["redis-server"] = "TIDEMILL_REDIS_SERVER", ["valkey-server"] = "TIDEMILL_VALKEY_SERVER" }
local PORT_TRIES = 20
local found = {}

local function find(program)
  if found[program] == nil then
    local named = NAMED[program] and os.getenv(NAMED[program]) or ""
    local wanted = named ~= "" and shell.quote(named) or program
    local path = shell.capture(("command -v %s 2>/dev/null"):format(wanted)):gsub("\n$", "")
    assert(path ~= "" or named == "", ("%s names no program: %s"):format(NAMED[program] or "", named))
    found[program] = path ~= "" and path or false
  end
  return found[program]
end

--- Whether a kind of server can be started here.
---@param kind "redis"|"valkey"
---@return true|nil
---@return string? reason
function M.available(kind)
  local program = assert(PROGRAMS[kind], "a server is 'redis' or 'valkey'")
  if not find(program) then return nil, program .. " is not installed" end
  return true
end

--- The kinds that can be started here, in a fixed order.
function M.kinds()
  local kinds = {}
  for _, kind in ipairs { "redis", "valkey" } do
    if M.available(kind) then kinds[#kinds + 1] = kind end
  end
  return kinds
end

local versions = {}

--- A server's own version, "7.0.15"; nil when it isn't installed.
function M.version(kind)
  if not M.available(kind) then return nil end
  versions[kind] = versions[kind] or shell.capture(find(PROGRAMS[kind]) .. " --version"):match "v=([%d.]+)"
  return versions[kind]
end

--- Whether it is a Redis older than 7.0 (Valkey never is).
function M.before_7(kind)
  local version = M.version(kind)
  return kind == "redis" and version ~= nil and tonumber(version:match "^%d+") < 7
end

local certificates

--- A certificate authority and two certificates made by it: one for 127.0.0.1 and localhost, one for another name.
function M.certificates()
  if certificates then return certificates end
  local dir = shell.temporary_dir "tls"
  local run = shell.run(([[
set -e
cd %s
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=tidemill test authority" -keyout ca.key -out ca.crt
make() {
  openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr"
  printf 'subjectAltName=%%s\n' "$3" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile "$1.ext" -out "$1.crt"
}
make right localhost DNS:localhost,IP:127.0.0.1
make wrong elsewhere.example DNS:elsewhere.example
]]):format(shell.quote(dir)))
  assert(run.code == 0, "openssl failed: " .. run.err)
  certificates = { dir = dir, ca = dir .. "/ca.crt" }
  return certificates
end

local function config_lines(self)
  local o = self.options
  local lines = {
    "bind 127.0.0.1", "daemonize no", "protected-mode no",
    "dir " .. self.dir,
    "logfile " .. self.dir .. "/log",
    "pidfile " .. self.dir .. "/server.pid",
    'save ""',
    "appendonly " .. (o.persist and "yes" or "no"),
  }
  local function add(...) lines[#lines + 1] = table.concat({ ... }, " ") end
  if o.persist then add "appendfsync always" end
  if o.tls then
    local certs = M.certificates()
    local name = o.tls == "wrong-host" and "wrong" or "right"
    add "port 0"
    add("tls-port", self.port)
    add("tls-cert-file", certs.dir .. "/" .. name .. ".crt")
    add("tls-key-file", certs.dir .. "/" .. name .. ".key")
    add("tls-ca-cert-file", certs.ca)
    add "tls-auth-clients no"
  else
    add("port", self.port)
  end
  if o.requirepass then add("requirepass", o.requirepass) end
  if o.acl then
    shell.write_file(self.dir .. "/users.acl", o.acl)
    add("aclfile", self.dir .. "/users.acl")
  end
  if o.unixsocket then add("unixsocket", self.socket) end
  if o.maxmemory then add("maxmemory", o.maxmemory) end
  if o.maxmemory_policy then add("maxmemory-policy", o.maxmemory_policy) end
  for name, value in pairs(o.config or {}) do add(name, value) end
  return table.concat(lines, "\n") .. "\n"
end

local function escape_url(text)
  return (tostring(text):gsub("[^%w%-._~]", function(c) return ("%%%02X"):format(c:byte()) end))
end

--- The server's URL, with another user and password when given.
function Server:url_for(user, password)
  local login = ""
  if user or password then login = escape_url(user or "") .. ":" .. escape_url(password or "") .. "@" end
  local scheme = self.kind .. (self.options.tls and "s" or "")
  local query = self.options.tls and "?ca=" .. M.certificates().ca or ""
  return ("%s://%s127.0.0.1:%d%s"):format(scheme, login, self.port, query)
end

-- Starts the program and waits for a line in its log; true, or nil and "taken" or a text.
local function launch(self, line)
  os.remove(self.dir .. "/log")
  shell.write_file(self.dir .. "/server.conf", config_lines(self))
  self.process = shell.spawn({ find(PROGRAMS[self.kind]), self.dir .. "/server.conf" }, { remove = self.dir })
  self.pid = self.process.pid
  local ready = shell.wait_until(function()
    if self:log():find(line or "Ready to accept connections", 1, true) then return "ready" end
    if not self.process:is_alive() then return "dead" end
  end, 30, 0.01)
  if ready == "ready" then return true end
  local log = self:log() .. self.process:errors() .. self.process:output()
  self.process:kill()
  if log:find("already in use", 1, true) then return nil, "taken" end
  return nil, ("%s did not start: %s"):format(self.kind, log)
end

--- Starts a server and waits until it accepts connections.
---@param kind "redis"|"valkey"
---@param options? table
function M.start(kind, options)
  assert(M.available(kind))
  local self = setmetatable({ kind = kind, options = options or {} }, Server)
  self.dir = shell.temporary_dir(kind)
  if self.options.unixsocket then
    self.socket = self.dir .. "/s.sock"
    self.unix_url = "unix:" .. self.socket
  end
  local ok, err
  for _ = 1, PORT_TRIES do
    -- Below the system's ephemeral range, so that no outgoing connection takes it between a stop and a restart.
    self.port = self.options.port or shell.random(15000, 32000)
    ok, err = launch(self)
    if ok or err ~= "taken" then break end
  end
  assert(ok, err)
  self.password = self.options.requirepass
  self.url = self:url_for(nil, self.password)
  return self
end

--- Ends it and waits (SIGTERM, then SIGKILL). The folder stays until the spec ends.
function Server:stop()
  if not self.process then return end
  self:resume()
  shell.signal(self.pid, "TERM")
  if not self.process:wait(10) then self.process:kill() end
  self.process = nil
end

--- As a crash does it: SIGKILL, and waits.
function Server:kill()
  if not self.process then return end
  self.process:kill()
  self.process = nil
end

--- Starts it again on the same port with the same folder (empty unless `persist`), and waits until it is ready, or
-- until its log has this text.
function Server:restart(line)
  if self.process then self:stop() end
  local ok, err
  for _ = 1, 50 do
    ok, err = launch(self, line)
    if ok or err ~= "taken" then break end
    shell.sleep(0.1)
  end
  assert(ok, err)
  return self
end

--- Stops the process where it stands (SIGSTOP), and lets it go on.
function Server:pause() shell.signal(self.pid, "STOP") end
function Server:resume() shell.signal(self.pid, "CONT") end

function Server:is_alive() return self.process ~= nil and self.process:is_alive() end
function Server:log() return shell.read_file(self.dir .. "/log") or "" end
function Server:version() return M.version(self.kind) end

-- redis-cli and valkey-cli speak to either server.
local function cli_words(self)
  local program = find(self.kind .. "-cli") or find "redis-cli" or find "valkey-cli"
  local words = { assert(program, "neither redis-cli nor valkey-cli is installed"), "-h", "127.0.0.1", "-p", self.port }
  if self.options.tls then
    for _, word in ipairs { "--tls", "--insecure" } do words[#words + 1] = word end
  end
  if self.password then
    for _, word in ipairs { "--no-auth-warning", "-a", self.password } do words[#words + 1] = word end
  end
  return words
end

--- One command through redis-cli; what it prints, without the last newline.
function Server:cli(...)
  local words = cli_words(self)
  for _, word in ipairs { ... } do words[#words + 1] = tostring(word) end
  return (shell.capture(shell.words(words) .. " 2>&1 </dev/null"):gsub("\n$", ""))
end

--- Many commands, one a line, through one redis-cli; what it prints.
function Server:cli_lines(lines)
  if type(lines) == "table" then lines = table.concat(lines, "\n") .. "\n" end
  local path = shell.write_file(self.dir .. "/commands", lines)
  return shell.capture(shell.words(cli_words(self)) .. " 2>&1 <" .. shell.quote(path))
end

--- One value out of INFO, as text; nil when there is none of that name.
function Server:info(name)
  return self:cli("INFO", "everything"):match(name .. ":([^\r\n]*)")
end

return M
