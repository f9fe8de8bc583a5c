// From a disk, a browser lets no page read another one: results are listed without their first lines.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// A picture of a whole machine is small in a column of text: it leads to itself alone, as large as it is.
document.addEventListener("DOMContentLoaded", () => {
  for (const picture of document.querySelectorAll("article img")) {
    const link = document.createElement("a");
    link.href = picture.src;
    link.className = picture.className;
    picture.removeAttribute("class");
    picture.replaceWith(link);
    link.append(picture);
  }
});
