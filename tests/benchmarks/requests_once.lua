-- Sends each request of a file once, in order: wrk ... -- FILE RATE
-- RATE is in requests a second, 0 for as many as the connections take. Each request in the file
-- follows its length in ten digits: see wrk.py. When every request has its answer, it prints
--   RESULT {"began_us": ..., "ended_us": ..., "answered": ..., "refused": ...}
-- with the times of the first request and of the last answer, in microseconds since the epoch.

local ffi = require("ffi")
ffi.cdef[[
  typedef struct { long seconds; long microseconds; } clock_reading;
  int gettimeofday(clock_reading *now, void *zone);
]]

-- Longer than any load: a connection that has nothing left to send.
local FOREVER_MS = 100000000

local requests, rate = {}, 0
local taken, sent, answered, refused = 0, 0, 0, 0
local began

local function now_us()
  local now = ffi.new("clock_reading")
  ffi.C.gettimeofday(now, nil)
  return tonumber(now.seconds) * 1000000 + tonumber(now.microseconds)
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local all, from = file:read("*a"), 1
  file:close()
  while from <= #all do
    local size = tonumber(all:sub(from, from + 9))
    requests[#requests + 1] = all:sub(from + 10, from + 9 + size)
    from = from + 10 + size
  end
  rate = tonumber(args[2])
end

-- wrk asks before each request for how many milliseconds the connection waits.
function delay()
  began = began or now_us()
  taken = taken + 1
  if taken > #requests then
    return FOREVER_MS
  end
  if rate == 0 then
    return 0
  end
  return math.max(0, (began + (taken - 1) / rate * 1e6 - now_us()) / 1000)
end

-- wrk also asks for one request before the load, which it does not send.
function request()
  if began then
    sent = sent + 1
  end
  return requests[math.max(1, math.min(sent, #requests))]
end

function response(status)
  answered = answered + 1
  if status >= 400 then
    refused = refused + 1
  end
  if answered == #requests then
    io.write(string.format(
      'RESULT {"began_us": %d, "ended_us": %d, "sent": %d, "answered": %d, "refused": %d}\n',
      began, now_us(), sent, answered, refused
    ))
    io.stdout:flush()
  end
end
