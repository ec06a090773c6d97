local tidemill = require "tidemill"

describe("a verdict", function()
  it("refuses options that nack doesn't know, and times that are none", function()
    assert.has_error(function() tidemill.nack { dealy = 1 } end)
    assert.has_error(function() tidemill.nack { delay = -1 } end)
    assert.has_error(function() tidemill.nack { delay = 0 / 0 } end)
    assert.equal(1500, tidemill.nack({ delay = 1.5 }).delay_ms)
    assert.equal(0, tidemill.nack().delay_ms)
  end)

  it("wants a reason that is text", function()
    assert.has_error(function() tidemill.reject {} end)
    assert.equal("why", tidemill.reject("why").reason)
    assert.equal("rejected", tidemill.reject().reason)
  end)
end)
