-- Requests from a file of templates, each sent with message ids of its own.
--
-- Arguments: the file. It holds whole HTTP requests, one after another, each ended by a NUL byte; "@@@@@@@@@@" in them becomes
-- the thread's number and a counter, as wide as the placeholder, so that lengths stay right.
-- Prints one line "RESULT {json}" at the end.

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local text = file:read("*a")
   file:close()
   requests = {}
   for whole in text:gmatch("[^%z]+") do
      local pieces, slots, at = {}, {}, 1
      while true do
         local from, to = whole:find("@@@@@@@@@@", at, true)
         if not from then break end
         pieces[#pieces + 1] = whole:sub(at, from - 1)
         pieces[#pieces + 1] = ""
         slots[#slots + 1] = #pieces
         at = to + 1
      end
      pieces[#pieces + 1] = whole:sub(at)
      requests[#requests + 1] = { pieces = pieces, slots = slots }
   end
   counter = 0
end

function request()
   counter = counter + 1
   local id = string.format("%01d%09d", number, counter)
   local chosen = requests[counter % #requests + 1]
   local pieces = chosen.pieces
   for _, slot in ipairs(chosen.slots) do
      pieces[slot] = id
   end
   return table.concat(pieces)
end

function done(summary, latency, _requests)
   local e = summary.errors
   io.write(string.format(
      'RESULT {"requests":%d,"seconds":%.6f,"p50":%.6f,"p99":%.6f,"max":%.6f,"refused":%d,"failed":%d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
      latency.max / 1e6, e.status, e.connect + e.read + e.write + e.timeout))
end
