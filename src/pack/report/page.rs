//! The frame of a page: style, escaping, tables.

use std::fmt::Write as _;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1c2430;background:#fff}\
h1{font-size:1.6rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.4rem 0}\
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #e3e7ec;white-space:nowrap}\
th{font-weight:600;border-bottom:1px solid #9aa5b1}th:first-child,td:first-child,td.t,th.t{text-align:left}\
.wide{overflow-x:auto}.dim{color:#66717e}.front{font-weight:600}figure{margin:1rem 0}svg{max-width:100%;height:auto}\
ul{margin:.4rem 0;padding-left:1.2rem}";

/// Text as HTML shows it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A page that needs no other file.
#[derive(Debug)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn new(title: &str) -> Self {
        let title = escaped(title);
        Self(format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        ))
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.push(&format!("<h2>{}</h2>\n", escaped(text)));
    }

    pub(super) fn paragraph(&mut self, text: &str) {
        self.push(&format!("<p>{}</p>\n", escaped(text)));
    }

    pub(super) fn list(&mut self, items: &[String]) {
        let items: String = items.iter().map(|item| format!("<li>{}</li>", escaped(item))).collect();
        self.push(&format!("<ul>{items}</ul>\n"));
    }

    /// A table whose first `texts` columns are words; rows that are marked stand out.
    pub(super) fn table(&mut self, header: &[String], rows: &[(bool, Vec<String>)], texts: usize) {
        let class = |column: usize| if column < texts { " class=t" } else { "" };
        let cells = |tag: &str, cells: &[String]| {
            cells.iter().enumerate().fold(String::new(), |mut text, (column, cell)| {
                let _ = write!(text, "<{tag}{}>{}</{tag}>", class(column), escaped(cell));
                text
            })
        };
        let mut text = format!("<div class=wide><table><thead><tr>{}</tr></thead><tbody>\n", cells("th", header));
        for (marked, row) in rows {
            let _ = writeln!(text, "<tr{}>{}</tr>", if *marked { " class=front" } else { "" }, cells("td", row));
        }
        self.push(&(text + "</tbody></table></div>\n"));
    }

    /// A plot, as SVG text.
    pub(super) fn figure(&mut self, svg: &str) {
        self.push(&format!("<figure>{svg}</figure>\n"));
    }

    pub(super) fn finish(mut self) -> String {
        self.push("</body></html>\n");
        self.0
    }

    fn push(&mut self, text: &str) {
        self.0.push_str(text);
    }
}
