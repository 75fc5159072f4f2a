"""The comparison as one web page that opens from disk: `registry/index.html`.

| file                | content                                                       |
|---------------------|---------------------------------------------------------------|
| page.py, page.html  | the page around its boards, and the data of their rows        |
| tables.py           | the table of a board                                          |
| charts.py           | its SVG pictures                                              |
| wall.py             | its wall of small pictures                                    |
| details.py          | what an opened row says                                       |
| content.py          | what is shown of a row beside the tables; text made safe      |
| sheets.py           | small pictures as PNG, with the same bytes on every machine   |
| page.css, page.js   | how it looks, and what it does                                |

Everything is rendered from what is given, so equal files give equal bytes. Nothing is loaded from
elsewhere, and everything but opening, sorting and filtering works without JavaScript.
"""
