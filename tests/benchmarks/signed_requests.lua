-- Sends prepared requests from a file, each at the next opportunity, again and again.
-- wrk ... -- FILE, where each request follows its length in ten digits: see wrk.py.

local requests, at = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local all, from = file:read("*a"), 1
  file:close()
  while from <= #all do
    local size = tonumber(all:sub(from, from + 9))
    requests[#requests + 1] = all:sub(from + 10, from + 9 + size)
    from = from + 10 + size
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, ' ..
    '"refused": %d, "lost": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
