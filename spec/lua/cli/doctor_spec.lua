local doctor = require "tidemill.cli.doctor"

describe("versions", function()
  it("are compared part by part", function()
    assert.is_true(doctor.is_before("8.0.1", "8.0.6"))
    assert.is_true(doctor.is_before("3.40.1", "3.51.3"))
    assert.is_true(doctor.is_before("6.0.16", "6.2"))
    assert.is_false(doctor.is_before("8.0.6", "8.0.6"))
    assert.is_false(doctor.is_before("8.0.10", "8.0.6"))
    assert.is_false(doctor.is_before("7.0.15", "6.2"))
    assert.is_false(doctor.is_before("6.2", "6.2.0"))
  end)
end)
