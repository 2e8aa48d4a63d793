// The record: on a phone the form is folded away, unless something in it is wrong.

const filters = document.querySelector(".filters");
const narrow = matchMedia("(max-width: 640px)");
const fold = () => { filters.open = !narrow.matches || document.getElementById("mistake") !== null; };

fold();
narrow.addEventListener("change", fold);
