/* SPDX-License-Identifier: MIT */
/*
 * What it is: the fixed Lua texts that run at the server, with their SHA-1: whatever must read and write in one step.
 * What it is not: generated or configurable; a text never changes at run time, so that EVALSHA finds it.
 * Invariants: every key is in KEYS and all share a hash tag; what can be refused is refused before the first write, for
 * scripts don't roll back; a dead letter is written before its original is acked.
 */
#include "broker/redis/redis.h"

/* KEYS stream, dedupe key of each record; ARGV window ms, "" "~" or "=", max_len, then for each record the number of its
 * arguments and these. Answers id and 0 (written) or 1 (there already) for each, or an error in the place of the id. A hit
 * writes too (its TTL as it is), so that WAIT behind it means something. */
static const char dedupe_text[] =
    "local mode, at, out = ARGV[2], 4, {}\n"
    "local function add(first, last)\n"
    "  if mode == '' then return redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, first, last)) end\n"
    "  return redis.pcall('XADD', KEYS[1], 'MAXLEN', mode, ARGV[3], '*', unpack(ARGV, first, "
    "last))\n"
    "end\n"
    "for i = 2, #KEYS do\n"
    "  local last = at + tonumber(ARGV[at])\n"
    "  local id = redis.pcall('GET', KEYS[i])\n"
    "  local hit = 0\n"
    "  if type(id) == 'string' then\n"
    "    hit = 1\n"
    "    redis.pcall('PEXPIRE', KEYS[i], math.max(1, redis.call('PTTL', KEYS[i])))\n"
    "  elseif not id then\n"
    "    id = add(at + 1, last)\n"
    "    if type(id) == 'string' then redis.pcall('SET', KEYS[i], id, 'PX', ARGV[1]) end\n"
    "  end\n"
    "  out[#out + 1] = id\n"
    "  out[#out + 1] = hit\n"
    "  at = last + 1\n"
    "end\n"
    "return out\n";

/* KEYS stream, version key; ARGV "any" "no_stream" "exists" or "=N", "" "~" or "=", max_len, then for each record the
 * number of its arguments and these. Answers 0 and the actual version, or 1, the new one and the ids. Everything that can
 * be refused is refused before the first write. */
static const char append_text[] =
    "local v = redis.call('GET', KEYS[2])\n"
    "if v then\n"
    "  v = tonumber(v)\n"
    "  if not v then return redis.error_reply('WRONGTYPE the version of the stream is not a "
    "number') end\n"
    "else\n"
    "  v = redis.call('XLEN', KEYS[1])\n"
    "end\n"
    "local want = ARGV[1]\n"
    "if (want == 'no_stream' and v ~= 0) or (want == 'exists' and v == 0) or\n"
    "   (string.sub(want, 1, 1) == '=' and string.sub(want, 2) ~= string.format('%.0f', v)) then\n"
    "  return {0, v}\n"
    "end\n"
    "local mode, at, out = ARGV[2], 4, {1, 0}\n"
    "while at <= #ARGV do\n"
    "  local last = at + tonumber(ARGV[at])\n"
    "  v = v + 1\n"
    "  local args = {unpack(ARGV, at + 1, last)}\n"
    "  args[#args + 1] = 'version'\n"
    "  args[#args + 1] = string.format('%.0f', v)\n"
    "  if mode == '' then\n"
    "    out[#out + 1] = redis.call('XADD', KEYS[1], '*', unpack(args))\n"
    "  else\n"
    "    out[#out + 1] = redis.call('XADD', KEYS[1], 'MAXLEN', mode, ARGV[3], '*', unpack(args))\n"
    "  end\n"
    "  at = last + 1\n"
    "end\n"
    "redis.call('SET', KEYS[2], string.format('%.0f', v))\n"
    "out[2] = v\n"
    "return out\n";

/* KEYS delayed set, delayed events, wake stream, then with a window the dedupe key of each record; ARGV "at" or "in", ms, window
 * ms, then for each record its event id and its packed XADD arguments. Answers 0 (scheduled) or 1 (there already) for each.
 * Whoever waits at the wake stream hears of an event that is due before all others, and within a minute: the others it
 * learns of in time by looking. The stream lives for 5 s, and its trouble (its type, an ACL) is not the event's. */
static const char schedule_text[] =
    "if redis.replicate_commands then redis.replicate_commands() end\n"
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "local due = tonumber(ARGV[2])\n"
    "if ARGV[1] == 'in' then due = now + due end\n"
    "local window = tonumber(ARGV[3])\n"
    "local score, out, added = string.format('%.0f', due), {}, false\n"
    "local first = redis.pcall('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')\n"
    "for i = 4, #ARGV, 2 do\n"
    "  local hit = 0\n"
    "  local key = KEYS[4 + (i - 4) / 2]\n"
    "  if window > 0 and redis.call('EXISTS', key) == 1 then\n"
    "    hit = 1\n"
    "  elseif redis.call('ZADD', KEYS[1], 'NX', score, ARGV[i]) == 0 then\n"
    "    hit = 1\n"
    "  else\n"
    "    added = true\n"
    "    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])\n"
    "    if window > 0 then\n"
    "      redis.call('SET', key, '0-0', 'PX', string.format('%.0f', window + math.max(0, due - "
    "now)))\n"
    "    end\n"
    "  end\n"
    "  out[#out + 1] = hit\n"
    "end\n"
    "if added and due < now + 60000 and (not first[2] or due < tonumber(first[2])) then\n"
    "  local wake = redis.pcall('XADD', KEYS[3], 'MAXLEN', '8', '*', 'due', score)\n"
    "  if type(wake) == 'string' then redis.pcall('PEXPIRE', KEYS[3], '5000') end\n"
    "end\n"
    "return out\n";

/* KEYS delayed set, delayed events, dedupe key; ARGV event id. Answers 1 when it was there. */
static const char cancel_text[] =
    "local n = redis.call('ZREM', KEYS[1], ARGV[1])\n"
    "redis.call('HDEL', KEYS[2], ARGV[1])\n"
    "if n == 1 and redis.call('GET', KEYS[3]) == '0-0' then redis.call('DEL', KEYS[3]) end\n"
    "return n\n";

/* KEYS stream, delayed set, delayed events, dead letters; ARGV most entries. Answers how many were moved, the ms until the next
 * is due or -1, and how many could not be read. Those become dead letters, so that they hold up no other; where even that is
 * refused (the key is of another type), they stay and are looked at again after a minute. An XADD into the stream that is
 * refused refuses the rest: they stay due. */
static const char promote_text[] =
    "if redis.replicate_commands then redis.replicate_commands() end\n"
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "local function unpacked(packed)\n"
    "  local n, at = struct.unpack('<I4', packed)\n"
    "  local args = {}\n"
    "  if n > 7500 then return nil end\n"
    "  for i = 1, n do\n"
    "    local len\n"
    "    len, at = struct.unpack('<I4', packed, at)\n"
    "    args[i] = string.sub(packed, at, at + len - 1)\n"
    "    if #args[i] < len then return nil end\n"
    "    at = at + len\n"
    "  end\n"
    "  local star = 1\n"
    "  if args[1] == 'MAXLEN' then\n"
    "    star = 4\n"
    "    if args[2] ~= '~' and args[2] ~= '=' then return nil end\n"
    "    if not string.find(args[3], '^%d+$') or #args[3] > 18 then return nil end\n"
    "  end\n"
    "  if args[star] ~= '*' or n < star + 2 or (n - star) % 2 ~= 0 then return nil end\n"
    "  return args\n"
    "end\n"
    "local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', "
    "0, ARGV[1])\n"
    "local broken = 0\n"
    "for _, id in ipairs(ids) do\n"
    "  local packed = redis.call('HGET', KEYS[3], id)\n"
    "  local ok, args = pcall(unpacked, packed)\n"
    "  local kept = false\n"
    "  if ok and args then\n"
    "    redis.call('XADD', KEYS[1], unpack(args))\n"
    "  else\n"
    "    broken = broken + 1\n"
    "    local at = string.format('%.0f', now)\n"
    "    local letter = redis.pcall('XADD', KEYS[4], '*', 'event_id', id, 'data', packed or '', "
    "'content_type', 'application/octet-stream', 'dead_reason', 'undecodable', 'dead_error', 'the "
    "delayed event is damaged', 'dead_stream', KEYS[1], 'dead_id', '0-0', 'dead_group', '', "
    "'dead_consumer', '', 'dead_attempts', '0', 'dead_first_at', at, 'dead_at', at)\n"
    "    kept = type(letter) == 'table'\n"
    "  end\n"
    "  if kept then\n"
    "    redis.call('ZADD', KEYS[2], string.format('%.0f', now + 60000), id)\n"
    "  else\n"
    "    redis.call('ZREM', KEYS[2], id)\n"
    "    redis.call('HDEL', KEYS[3], id)\n"
    "  end\n"
    "end\n"
    "local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')\n"
    "local wait = -1\n"
    "if first[2] then wait = math.max(0, tonumber(first[2]) - now) end\n"
    "return {#ids - broken, wait, broken}\n";

/* KEYS stream, dead letters; ARGV group, consumer, id, fields. Both may be there after a crash of the server, never neither.
 * Answers 0, and does nothing, when the entry isn't pending for this consumer (any more): whoever claimed it decides. */
static const char dead_text[] =
    "local own = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])\n"
    "if #own == 0 then return 0 end\n"
    "redis.call('XADD', KEYS[2], '*', unpack(ARGV, 4))\n"
    "redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])\n"
    "return 1\n";

/* KEYS stream, delayed set, delayed events; ARGV group, consumer, id, member, delay ms, packed XADD arguments. Answers 0 as
 * above. */
static const char delay_text[] =
    "local own = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])\n"
    "if #own == 0 then return 0 end\n"
    "if redis.replicate_commands then redis.replicate_commands() end\n"
    "local t = redis.call('TIME')\n"
    "local due = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[5])\n"
    "redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[4])\n"
    "redis.call('HSET', KEYS[3], ARGV[4], ARGV[6])\n"
    "redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])\n"
    "return 1\n";

/* KEYS stream; ARGV group, consumer, then "release" or "attempt", id, count for each item. Answers 1 for those that the consumer
 * still owned, 0 for the others, which are left alone. A released one is idle for a day at once, so anyone may claim it. */
static const char own_text[] =
    "local out = {}\n"
    "for i = 3, #ARGV, 3 do\n"
    "  local id = ARGV[i + 1]\n"
    "  local own = #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2])\n"
    "  if own == 1 then\n"
    "    local idle = ARGV[i] == 'release' and 86400000 or 0\n"
    "    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', idle, 'RETRYCOUNT', ARGV[i "
    "+ 2], 'JUSTID')\n"
    "  end\n"
    "  out[#out + 1] = own\n"
    "end\n"
    "return out\n";

/* KEYS stream; ARGV group, consumer, ids in order. Renews those that the consumer owns; answers the others. */
static const char extend_text[] =
    "local owned, from, last, size = {}, ARGV[3], ARGV[#ARGV], math.max(100, #ARGV)\n"
    "repeat\n"
    "  local page = redis.call('XPENDING', KEYS[1], ARGV[1], from, last, size, ARGV[2])\n"
    "  for _, entry in ipairs(page) do owned[entry[1]] = true end\n"
    "  if #page > 0 then from = '(' .. page[#page][1] end\n"
    "until #page < size\n"
    "local kept, ids = {}, {}\n"
    "local function renew()\n"
    "  if #ids == 0 then return end\n"
    "  ids[#ids + 1] = 'JUSTID'\n"
    "  for _, id in ipairs(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids))) do "
    "kept[id] = true end\n"
    "  ids = {}\n"
    "end\n"
    "for i = 3, #ARGV do\n"
    "  if owned[ARGV[i]] then ids[#ids + 1] = ARGV[i] end\n"
    "  if #ids == 1000 then renew() end\n"
    "end\n"
    "renew()\n"
    "local lost = {}\n"
    "for i = 3, #ARGV do\n"
    "  if not kept[ARGV[i]] then lost[#lost + 1] = ARGV[i] end\n"
    "end\n"
    "return lost\n";

/* KEYS stream; ARGV group, consumer, first id, last id, most. Answers id and count of the consumer's pending entries that the
 * stream doesn't have any more: Redis 6.2 answers XAUTOCLAIM with a nil for them, and no id. */
static const char gone_text[] =
    "local out, from, most = {}, ARGV[3], tonumber(ARGV[5])\n"
    "repeat\n"
    "  local page = redis.call('XPENDING', KEYS[1], ARGV[1], from, ARGV[4], 100, ARGV[2])\n"
    "  for _, entry in ipairs(page) do\n"
    "    if #out < most * 2 and #redis.call('XRANGE', KEYS[1], entry[1], entry[1]) == 0 then\n"
    "      out[#out + 1] = entry[1]\n"
    "      out[#out + 1] = entry[4]\n"
    "    end\n"
    "  end\n"
    "  if #page > 0 then from = '(' .. page[#page][1] end\n"
    "until #page < 100 or #out >= most * 2\n"
    "return out\n";

/* KEYS key; ARGV value, ttl ms or 0. Answers 1, or 0 and what is there. */
static const char add_text[] = "local there = redis.call('GET', KEYS[1])\n"
                               "if there then return {0, there} end\n"
                               "if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1]) else "
                               "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end\n"
                               "return {1}\n";

/* KEYS key; ARGV value, ttl ms or 0, expected. Answers 1, or 0 and what is there, if anything. */
static const char replace_text[] = "local there = redis.call('GET', KEYS[1])\n"
                                   "if there ~= ARGV[3] then return {0, there} end\n"
                                   "if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1]) "
                                   "else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end\n"
                                   "return {1}\n";

/* KEYS key; ARGV expected. Answers 1, or 0 and what is there, if anything. */
static const char delete_if_text[] = "local there = redis.call('GET', KEYS[1])\n"
                                     "if there ~= ARGV[1] then return {0, there} end\n"
                                     "redis.call('DEL', KEYS[1])\n"
                                     "return {1}\n";

/* KEYS key; ARGV amount, ttl ms. Answers the sum, as text: a Lua number would lose digits beyond 2^53. */
static const char increment_text[] = "redis.call('INCRBY', KEYS[1], ARGV[1])\n"
                                     "redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
                                     "return redis.call('GET', KEYS[1])\n";

static const struct {
    tide_str text;
    const char *sha1;
} scripts[SCRIPT_COUNT] = {
    [SCRIPT_DEDUPE] = {{dedupe_text, sizeof dedupe_text - 1},
                       "badb40497f93c488749992a3f459d64cdad4393e"},
    [SCRIPT_APPEND] = {{append_text, sizeof append_text - 1},
                       "76b734d53eec3c271ae0249971d8495a26207c8d"},
    [SCRIPT_SCHEDULE] = {{schedule_text, sizeof schedule_text - 1},
                         "31a5faf02a2ff39f0d765844084a111bc22a8d11"},
    [SCRIPT_CANCEL] = {{cancel_text, sizeof cancel_text - 1},
                       "14c14b4925b11181f7a5fc8f5b1f03cccb516f1b"},
    [SCRIPT_PROMOTE] = {{promote_text, sizeof promote_text - 1},
                        "2d41edf12e33a61605a62189813fddabc089f990"},
    [SCRIPT_DEAD] = {{dead_text, sizeof dead_text - 1}, "c2fc0ca83c077c49b0312548c9f9efca2868aa22"},
    [SCRIPT_DELAY] = {{delay_text, sizeof delay_text - 1},
                      "38b3522a4369e2e1f7261b1879eb4cdb88f35a14"},
    [SCRIPT_OWN] = {{own_text, sizeof own_text - 1}, "fca5e939fb3cd282d5fe6817fab4ae8b8f3842f0"},
    [SCRIPT_EXTEND] = {{extend_text, sizeof extend_text - 1},
                       "0a394c1a3c6012127d6146bbae19633fea1a388d"},
    [SCRIPT_GONE] = {{gone_text, sizeof gone_text - 1}, "070accc711608a45e20a2584e0c142de3ecad90a"},
    [SCRIPT_ADD] = {{add_text, sizeof add_text - 1}, "b3e0e54ac8c297dca6fcd28c5daf8f2f80ecb85d"},
    [SCRIPT_REPLACE] = {{replace_text, sizeof replace_text - 1},
                        "fc94fcf638c1aa814362a59f965211795fb3892f"},
    [SCRIPT_DELETE_IF] = {{delete_if_text, sizeof delete_if_text - 1},
                          "fecfdfcc7761bcce98ac78875e87211a62b93736"},
    [SCRIPT_INCREMENT] = {{increment_text, sizeof increment_text - 1},
                          "cac9c46a56508940d8994757bac098de2a7aa468"},
};

tide_str redis_script_text(redis_script script) {
    return scripts[script].text;
}

tide_str redis_script_sha1(redis_script script) {
    return (tide_str){scripts[script].sha1, 40};
}
