// Switches between light and dark, and marks the section in view. Runs before the body is read.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripts");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");

  // A browser may forbid storage to a page from disk; the choice then lasts as long as the page.
  const stored = {
    get() { try { return localStorage.getItem("tf-simclr-theme"); } catch { return null; } },
    set(theme) { try { localStorage.setItem("tf-simclr-theme", theme); } catch { /* see above */ } },
  };

  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";
  const saved = stored.get();
  if (saved === "light" || saved === "dark") root.dataset.theme = saved;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("button.theme");
    const label = button.querySelector("span");
    const show = () => {
      label.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", isDark() ? "Switch to light colors" : "Switch to dark colors");
      document.dispatchEvent(new Event("themechange"));
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      stored.set(root.dataset.theme);
      show();
    });
    prefersDark.addEventListener("change", show);
    show();
    markSection();
  });

  function markSection() {
    const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
    const sections = [...links.keys()].map((id) => document.getElementById(id));
    const nav = document.querySelector("nav");
    let current = null;
    const update = () => {
      const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 4;
      const passed = sections.filter((s) => s.getBoundingClientRect().top < innerHeight * 0.3);
      const link = links.get((atEnd && scrollY > 0 ? sections.at(-1) : passed.at(-1) || sections[0]).id);
      if (link === current) return;
      if (current) current.removeAttribute("aria-current");
      link.setAttribute("aria-current", "true");
      current = link;
      if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = link.offsetLeft - nav.offsetLeft - 40;
    };
    addEventListener("scroll", update, { passive: true });
    addEventListener("resize", update);
    update();
  }
})();
