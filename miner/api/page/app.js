// Draws the status of a mining run. Everything shown is set as text: pools choose some of it.
"use strict";

const STATUS_MS = 1000, HISTORY_MS = 5000;
const $ = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function scaled(value, units, step, digits) {
  let power = 0;
  while (value >= step * 0.9999 && power + 1 < units.length) { value /= step; power += 1; }
  return value.toFixed(digits) + units[power];
}
const rate = (value) => scaled(value, [" H/s", " kH/s", " MH/s", " GH/s", " TH/s", " PH/s", " EH/s"], 1000, 2);
const difficulty = (value) => {
  if (value === null || value === undefined) return "–";
  if (value < 1) return Number(value.toPrecision(3)).toString();
  const text = scaled(value, ["", "k", "M", "G", "T", "P"], 1000, 2);
  return text.replace(/\.?0+(?=[a-zA-Z]?$)/, "");
};
const watts = (value) => (value >= 1000 ? (value / 1000).toFixed(2) + " kW" : value.toFixed(1) + " W");
const celsius = (value) => value.toFixed(1) + " °C";
const count = (value) => value.toLocaleString("en");

function duration(seconds) {
  const whole = Math.floor(seconds), pad = (n) => String(n).padStart(2, "0");
  const days = Math.floor(whole / 86400);
  return (days ? days + " d " : "") + Math.floor(whole / 3600) % 24 + ":" + pad(Math.floor(whole / 60) % 60) + ":" + pad(whole % 60);
}

function span(seconds) {
  if (seconds < 1) return "less than a second";
  const units = [[31557600, "year"], [2629800, "month"], [86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const [size, name] = units.find(([length]) => seconds >= length);
  const amount = seconds / size;
  if (amount >= 1e6) return amount.toExponential(1) + " " + name + "s";
  const text = amount >= 9.95 ? Math.round(amount).toLocaleString("en") : amount.toFixed(1);
  return text + " " + name + (text === "1.0" ? "" : "s");
}

function chance(probability) {
  if (probability >= 0.9995) return "> 99.9 %";
  if (probability >= 0.0005) return Number((probability * 100).toPrecision(2)) + " %";
  return probability > 0 ? "1 in " + Math.round(1 / probability).toLocaleString("en") : "0 %";
}

const sum = (counts) => Object.values(counts).reduce((total, value) => total + value, 0);
const hottest = (device) => {
  const details = device.details;
  if (!details) return null;
  const all = [...Object.values(details.temperatures_c), ...details.chips.map((chip) => chip.temperature_c).filter((value) => value !== null)];
  return all.length ? Math.max(...all) : null;
};

function tile(label, value, note) {
  const made = element("div", null, "tile");
  made.append(element("span", label), element("b", value));
  if (note) made.append(element("span", note));
  return made;
}

function table(target, columns, rows) {
  const head = element("thead"), body = element("tbody"), line = element("tr");
  for (const [name, kind] of columns) line.append(element("th", name, kind));
  head.append(line);
  for (const row of rows) {
    const made = element("tr");
    row.forEach((cell, index) => {
      const [text, className] = Array.isArray(cell) ? cell : [cell, ""];
      const td = element("td", text, [columns[index][1] || "", className].join(" ").trim());
      td.dataset.label = columns[index][0];
      made.append(td);
    });
    body.append(made);
  }
  target.replaceChildren(head, body);
}

function deviceState(device, status) {
  if (device.failure) return [device.failure, "bad"];
  if (device.paused) return [device.kind === "cpu" && status.idle ? "resting: " + status.idle : "paused", "faint"];
  if (device.details && device.details.state) return [device.details.state, ""];
  return status.height === null ? ["waiting", "faint"] : ["mining", "good"];
}

function showTiles(status) {
  const rejected = sum(status.rejected);
  const made = [
    tile("hash rate", rate(status.rate), "average " + rate(status.average)),
    tile(status.pools.length ? "shares accepted" : "blocks accepted", count(status.accepted),
      "rejected " + count(rejected) + ", stale " + count(status.stale)),
  ];
  if (status.pools.length && status.blocks) made.push(tile("blocks found", count(status.blocks)));
  const energy = status.energy;
  if (energy && energy.watts !== null) {
    const notes = [];
    if (energy.joules_per_th !== null) notes.push(energy.joules_per_th >= 1e5 ? (energy.joules_per_th / 1e6).toFixed(2) + " J/MH" : energy.joules_per_th.toFixed(1) + " J/TH");
    if (energy.cost_per_day !== null) notes.push(energy.cost_per_day.toFixed(2) + " " + energy.currency + " a day");
    if (!energy.complete) notes.push("not all devices");
    made.push(tile("power", watts(energy.watts), notes.join(", ")));
  }
  if (status.outlook) made.push(tile("a block, median", span(status.outlook.median_s), chance(status.outlook.chances["30"]) + " within 30 days"));
  made.push(tile("best share", difficulty(status.best_difficulty), "network " + difficulty(status.network.difficulty)));
  made.push(tile("up", duration(status.uptime_s), count(status.hardware_errors) + " hardware errors"));
  $("tiles").replaceChildren(...made);
}

function showDevices(status) {
  const details = status.devices.some((device) => device.details);
  const columns = [["device"], ["state", "text"], ["hash rate"], ["average"], ["accepted"], ["errors"]];
  if (details) columns.push(["temperature"], ["fan"], ["power"]);
  table($("devices"), columns, status.devices.map((device) => {
    const row = [device.name, deviceState(device, status), rate(device.rate), rate(device.average),
      count(device.accepted), [count(device.hardware_errors), device.hardware_errors ? "bad" : ""]];
    if (details) {
      const known = device.details, heat = hottest(device);
      const fans = known ? known.fans.filter((fan) => fan.rpm !== null).map((fan) => Math.round(fan.rpm) + " rpm") : [];
      row.push(heat === null ? "" : celsius(heat), fans.join(", "), known && known.watts !== null ? watts(known.watts) : "");
    }
    return row;
  }));
}

const listed = (values, format) => Object.entries(values).map(([name, value]) => name + " " + format(value)).join(", ");

function showHardware(status) {
  const known = status.devices.filter((device) => device.details && (device.details.model || device.details.chips.length));
  $("hardware-section").hidden = !known.length;
  table($("hardware"), [["device"], ["model", "text"], ["clock"], ["chips"], ["temperatures", "text"], ["supply", "text"], ["efficiency"], ["counts", "text"]],
    known.map((device) => {
      const details = device.details, alive = details.chips.filter((chip) => chip.alive).length;
      const supply = [listed(details.voltages_v, (value) => value.toFixed(3) + " V"), listed(details.currents_a, (value) => value.toFixed(2) + " A")];
      return [device.name, [details.model, details.path].filter(Boolean).join(" at "),
        details.frequency_mhz === null ? "" : details.frequency_mhz.toFixed(0) + " MHz",
        details.chips.length ? [alive + " of " + details.chips.length, alive < details.chips.length ? "bad" : ""] : "",
        listed(details.temperatures_c, celsius), supply.filter(Boolean).join(", "),
        details.watts !== null && device.rate > 0 ? ((details.watts / device.rate) * 1e12).toFixed(1) + " J/TH" : "",
        listed(Object.fromEntries(Object.entries(details.counters).filter(([, value]) => value)), count)];
    }));
}

function showPools(status) {
  $("pools-section").hidden = !status.pools.length;
  table($("pools"), [["pool"], ["state", "text"], ["difficulty"], ["accepted"], ["rejected"], ["stale"], ["user", "text"]],
    status.pools.map((pool) => [pool.url || pool.name,
      pool.enabled ? [pool.state, pool.active ? "good" : pool.state.startsWith("down") ? "bad" : "faint"] : ["disabled", "faint"],
      difficulty(pool.difficulty), count(pool.accepted), count(sum(pool.rejected)), count(pool.stale), pool.user]));
}

function showEnergy(status) {
  const energy = status.energy;
  $("energy-section").hidden = !energy || !(energy.power.length || energy.problems.length);
  if (!energy) return;
  table($("energy"), [["devices"], ["source", "text"], ["power"]],
    energy.power.map((entry) => [entry.devices.join(", "), entry.source, entry.watts === null ? "–" : watts(entry.watts)]));
  $("problems").replaceChildren(...energy.problems.map((problem) => element("li", problem)));
}

function showStatus(status) {
  const network = status.network;
  const height = status.height === null ? "waiting for work" : "height " + count(status.height);
  $("where").textContent = [network.name, height, network.node, "version " + status.version].filter(Boolean).join(" · ");
  document.title = rate(status.rate) + " – pickaxe mine";
  showTiles(status);
  showDevices(status);
  showHardware(status);
  showPools(status);
  showEnergy(status);
}

const SVG = "http://www.w3.org/2000/svg";
function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// One curve from zero to its highest value; gaps where a value is null. Pointing at it says value and time.
function chart(id, times, values, format) {
  const svg = $(id + "-chart"), output = $(id + "-now");
  const known = values.filter((value) => value !== null);
  if (!known.length) return;
  const top = Math.max(...known) * 1.08 || 1, start = times[0], length = Math.max(times[times.length - 1] - start, 1);
  const x = (at) => ((at - start) / length) * 1000, y = (value) => 200 - (value / top) * 200;
  svg.setAttribute("viewBox", "0 0 1000 200");
  svg.setAttribute("preserveAspectRatio", "none");
  const parts = [0, 100, 200].map((at) => shape("line", { x1: 0, x2: 1000, y1: at, y2: at, class: "grid" }));
  let run = [];
  const finish = () => {
    if (run.length) {
      const line = run.map(([at, value], index) => (index ? "L" : "M") + x(at).toFixed(1) + " " + y(value).toFixed(1)).join("");
      parts.push(shape("path", { d: line + "L" + x(run[run.length - 1][0]).toFixed(1) + " 200L" + x(run[0][0]).toFixed(1) + " 200Z", class: "area" }));
      parts.push(shape("path", { d: line, class: "curve" }));
    }
    run = [];
  };
  values.forEach((value, index) => { if (value === null) finish(); else run.push([times[index], value]); });
  finish();
  svg.replaceChildren(...parts);
  const latest = () => { output.textContent = format(known[known.length - 1]) + ", highest " + format(Math.max(...known)); };
  svg.onpointermove = (event) => {
    const box = svg.getBoundingClientRect();
    const at = start + ((event.clientX - box.left) / box.width) * length;
    let nearest = 0;
    times.forEach((time, index) => { if (Math.abs(time - at) < Math.abs(times[nearest] - at)) nearest = index; });
    const value = values[nearest];
    output.textContent = duration(times[nearest]) + ": " + (value === null ? "–" : format(value));
  };
  svg.onpointerleave = latest;
  if (!svg.matches(":hover")) latest();
}

function showHistory(history) {
  chart("rate", history.at_s, history.rate, rate);
  for (const [id, values, format] of [["watts", history.watts, watts], ["temperature", history.temperature_c, celsius]]) {
    $(id + "-figure").hidden = !values.some((value) => value !== null);
    chart(id, history.at_s, values, format);
  }
  $("messages-section").hidden = !history.messages.length;
  $("messages").replaceChildren(...history.messages.slice(-30).reverse().map((message) => {
    const item = element("li"), when = new Date(message.time * 1000);
    const time = element("time", when.toLocaleTimeString());
    time.dateTime = when.toISOString();
    item.append(time, message.text);
    return item;
  }));
}

function poll(path, show, everyMs) {
  const again = async () => {
    try {
      const answer = await fetch(path, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.json());
      $("lost").hidden = true;
    } catch (error) {
      $("lost").hidden = false;
      console.error(path, error);
    }
    setTimeout(again, document.hidden ? everyMs * 5 : everyMs);
  };
  again();
}

poll("/status.json", showStatus, STATUS_MS);
poll("/history.json", showHistory, HISTORY_MS);
