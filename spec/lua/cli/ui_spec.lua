local ui = require "tidemill.cli.ui"

describe("text from the world, on a terminal", function()
  it("leaves plain text and other scripts as they are", function()
    assert.equal("order 7", ui.escape "order 7")
    assert.equal("größe 注文 🚀", ui.escape "größe 注文 🚀")
  end)

  it("shows control characters instead of obeying them", function()
    assert.equal("\\e[31mred\\e[0m", ui.escape "\27[31mred\27[0m")
    assert.equal("a\\r\\nb\\tc", ui.escape "a\r\nb\tc")
    assert.equal("\\x00\\x07\\x7F", ui.escape "\0\7\127")
    assert.equal("\\u{9B}31m", ui.escape "\194\15531m")
  end)

  it("shows what reorders or hides text", function()
    assert.equal("\\u{202E}txt.exe", ui.escape "\226\128\174txt.exe")
    assert.equal("a\\u{200B}b", ui.escape "a\226\128\139b")
    assert.equal("\\u{FEFF}x", ui.escape "\239\187\191x")
  end)

  it("shows bytes that are no UTF-8", function()
    assert.equal("\\xFF\\xC0\\xAF", ui.escape "\255\192\175")
    assert.equal("\\xED\\xA0\\x80", ui.escape "\237\160\128")
    assert.equal("x\\xE2\\x82", ui.escape "x\226\130")
  end)

  it("cuts what is too long and says how long it is", function()
    assert.equal("aaaa… (10 bytes)", ui.escape(("a"):rep(10), 4))
  end)

  it("tells UTF-8 from other bytes at every split of a text", function()
    local text = "aé€𝄞"
    local whole = { [0] = true, [1] = true, [3] = true, [6] = true, [10] = true }
    for size = 0, #text do
      assert.equal(whole[size] or false, ui.is_utf8(text:sub(1, size)), "first " .. size .. " bytes")
    end
  end)
end)

describe("a progress line", function()
  it("is never as wide as the terminal, so that the next one can be written over it", function()
    for width = 10, 100 do
      for _, total in ipairs { 0, 5, 123456789 } do
        assert.is_true(#ui.progress_line("publishing", 123456, total, 1e6, width) < width)
      end
    end
    local line = ui.progress_line("publishing", 50, 100, 25, 80)
    assert.equal("publishing [############............]  50 % 50 of 100, 25/s", line)
    assert.equal("publishing  50 % 50 of 100, 25/s", ui.progress_line("publishing", 50, 100, 25, 40))
  end)
end)

describe("exit codes", function()
  it("tell a server out of reach from a refusal", function()
    for _, code in ipairs { "CONNECT", "TIMEOUT", "TLS", "NOAUTH", "NOPERM", "LOADING", "CORRUPT", "FOREIGN",
      "READONLY" } do
      assert.equal(3, ui.exit_of { code = "TIDE-" .. code }, code)
    end
    for _, code in ipairs { "CONFLICT", "WRONGTYPE", "LIMIT", "OOM" } do
      assert.equal(1, ui.exit_of { code = "TIDE-" .. code }, code)
    end
    assert.equal(2, ui.exit_of { code = "TIDE-URL" })
    assert.equal(1, ui.exit_of "a text")
  end)
end)
