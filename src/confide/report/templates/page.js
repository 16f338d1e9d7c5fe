"use strict";
{
  const at = (id) => document.getElementById(id);
  const percent = (share) => (100 * share).toFixed(1) + "%";
  const some = (count, noun) => `${count.toLocaleString("en-GB")} ${noun}${count === 1 ? "" : "s"}`;
  const exact = (value) => String(value).replace("-", "−");

  const slide = (data) => {
    const slider = at("slider"), chooser = at("source");
    const plot = document.querySelector("#curve svg");
    let spoken = 0;

    // The axes of a plot: two places in its own units, then the values that stand there.
    const place = (svg, axis, value) => {
      const [start, end, low, high] = svg.dataset[axis].split(" ").map(Number);
      const where = (Math.min(Math.max(value, low), high) - low) / (high - low);
      return (start + where * (end - start)).toFixed(1);
    };
    const positive = (id, otherwise) => {
      const value = at(id).valueAsNumber;
      return value >= 0 ? value : otherwise;
    };

    const choose = () => {
      const source = Number(chooser.value);
      for (const part of document.querySelectorAll("#histograms [data-source]"))
        part.classList.toggle("off", Number(part.dataset.source) !== source);
      for (const line of plot.querySelectorAll("path[data-source]"))
        line.classList.toggle("shown", Number(line.dataset.source) === source);
      const key = at("other-key");
      key.textContent = data.sources[source].name;
      key.classList.toggle("off", !plot.querySelector(".chosen.shown"));
      slider.max = data.sources[source].threshold.length - 1;
      slider.value = data.sources[source].start;
      move();
    };

    const move = () => {
      const source = data.sources[Number(chooser.value)], step = Number(slider.value);
      const all = source.kept[0], kept = source.kept[step], right = source.right[step];
      const threshold = source.threshold[step], escalated = 1 - kept / all;
      const expert = Math.min(positive("expert", 100), 100) / 100;
      const cost = positive("own", 0) + escalated * positive("price", 0);
      const goal = Math.min(0.99, Math.max(0.01, Math.ceil(+(100 * (1 - right / kept)).toFixed(9)) / 100));
      at("value").textContent = slider.ariaValueText = exact(threshold);
      at("right").textContent = percent(right / kept);
      at("kept").textContent = percent(kept / all);
      at("escalated").textContent = percent(escalated);
      at("together").textContent = percent((right + (all - kept) * expert) / all);
      at("cost").textContent = cost.toLocaleString("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
      at("command").textContent =
        `confide calibrate ${data.file} ${data.flags}--source ${source.argument} --max-risk ${goal.toFixed(2)} --level 0.95 --out policy.json`;

      const histogram = document.querySelector(`#histograms [data-source="${Number(chooser.value)}"] svg`);
      const line = histogram.querySelector(".cut"), x = place(histogram, "x", threshold);
      line.setAttribute("d", line.getAttribute("d").replace(/^M[\d.]+/, "M" + x));
      const ring = plot.querySelector(".here");
      ring.setAttribute("cx", place(plot, "x", kept / all));
      ring.setAttribute("cy", place(plot, "y", 1 - right / kept));

      // Said once the slider rests: a screen reader should not hear every step of the way.
      clearTimeout(spoken);
      spoken = setTimeout(() => {
        const missing = data.rows - all;
        at("status").textContent =
          `${kept.toLocaleString("en-GB")} of ${some(all, "answer")} kept, ${percent(right / kept)} of them right` +
          (missing ? `; ${some(missing, "row")} without a value left out here: a policy escalates such rows.` : ".");
      }, 250);
    };

    chooser.addEventListener("change", choose);
    for (const id of ["slider", "own", "price", "expert"]) at(id).addEventListener("input", move);
    at("copy").addEventListener("click", async () => {
      const command = at("command");
      try {
        await navigator.clipboard.writeText(command.textContent);
        at("copy").textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(command);
        at("copy").textContent = "Selected";
      }
      setTimeout(() => { at("copy").textContent = "Copy"; }, 2000);
    });
    move();
  };

  if (at("data")) slide(JSON.parse(at("data").textContent));
}
