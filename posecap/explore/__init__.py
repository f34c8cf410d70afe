"""``posecap explore``: a page to look at the clips of a dataset, finished or under way, in a browser.

:mod:`posecap.explore.contents` gathers what is shown, and :mod:`posecap.explore.page` writes all of it into one HTML
file, or answers a browser on this machine. The page itself is page.html, page.css, arrow.js and page.js beside these
modules, plain as they are read: no build step, and no address outside of the page.

The browser gets tables as Arrow IPC files of one record batch, compressed with gzip. docs/explore.md describes them.
"""
