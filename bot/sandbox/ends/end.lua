local @NAME@; do
  local kept, hook, exit, flush, global = {}, debug and debug.gethook, os.exit, io.stdout, _G
  for _, name in ipairs({"assert", "error", "pcall", "xpcall", "type", "tostring", "tonumber", "rawequal", "pairs", "ipairs", "next", "select", "print"}) do
    kept[name] = global[name]
  end
  local info, mine = debug and debug.getinfo, debug and debug.getinfo(1, "S").source
  local dump, texts, metatable = string.dump, getmetatable("").__index, getmetatable
  string.dump = function(one, ...)
    if info and info(one, "S").source == mine then return nil end
    return dump(one, ...)
  end
  local library = {} -- functions of the language's tables
  for _, name in ipairs({"string", "table", "math", "os", "io", "utf8", "coroutine"}) do
    for key, value in pairs(global[name] or {}) do library[#library + 1] = {global[name], key, value} end
  end
  local next = next
  for _, name in ipairs(debug and {"getlocal", "setlocal", "getupvalue", "setupvalue", "upvaluejoin"} or {}) do -- of the script's functions
    local real = debug[name]
    debug[name] = function(one, two, ...)
      local found = type(one) == "number" and info(one + 1, "S") or type(one) == "thread" and info(one, two, "S")
        or type(one) == "function" and info(one, "S")
      if found and found.source == mine then return nil end
      local first, second = real(type(one) == "number" and one + 1 or one, two, ...)
      return first, second
    end
  end
  @NAME@ = function(status)
    if status == false then status = 1 elseif status == true or status == nil then status = 0 end
    if status ~= 0 then exit(status) end
    flush:flush()
    local name, value = next(kept)
    while name do
      if global[name] ~= value then exit(@OTHER@) end
      name, value = next(kept, name)
    end
    for n = 1, #library do
      if library[n][1][library[n][2]] ~= library[n][3] then exit(@OTHER@) end
    end
    if (hook and hook()) or metatable("").__index ~= texts then exit(@OTHER@) end
    exit(@CODE@)
  end
end
