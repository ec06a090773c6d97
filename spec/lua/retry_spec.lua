local retry = require "tidemill.retry"

describe("retry options", function()
  it("are nothing when nothing is given", function()
    assert.is_nil(retry.policies("topic:on", nil, 1))
  end)

  it("give a policy, and one for each class", function()
    local policy, classes = retry.policies("topic:on", {
      max = 3, backoff = "fixed", delay = 0.5, classes = { declined = { max = 1 }, ["TIDE-TIMEOUT"] = {} },
    }, 1)
    assert.is_userdata(policy)
    assert.is_userdata(classes.declined)
    assert.is_userdata(classes["TIDE-TIMEOUT"])
  end)

  it("say how many attempts the most patient of them allows", function()
    local function attempts(given) return (select(3, retry.policies("topic:on", given))) end
    assert.equal(5, attempts(nil))
    assert.equal(5, attempts {})
    assert.equal(2, attempts { max = 2, classes = { x = { max = 1 } } })
    assert.equal(7, attempts { max = 2, classes = { x = { max = 7 }, y = {} } })
    assert.equal(0, attempts { max = 2, classes = { x = { max = 0 } } })
    assert.equal(0, attempts { max = 0, classes = { x = { max = 3 } } })
  end)

  it("are refused by name and value", function()
    for _, bad in ipairs { { mx = 3 }, { max = -1 }, { max = 1.5 }, { backoff = "quadratic" }, { delay = -1 },
      { jitter = 2 }, { factor = 0 }, { classes = { x = { nope = 1 } } }, { classes = { x = 7 } },
      { classes = { x = { classes = {} } } }, { max = 0 / 0 } } do
      assert.has_error(function() retry.policies("topic:on", bad, 1) end)
    end
  end)
end)
