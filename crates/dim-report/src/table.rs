//! A table as data; Markdown and the page each draw it in their way.

/// A table. The first column names the rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// What it shows, with its unit.
    pub(crate) title: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The table in Markdown, without its title.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| escape(cell)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule: Vec<_> = (0..self.header.len()).map(|column| if column == 0 { "---" } else { "---:" }).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}| {} |\n{rows}", line(&self.header), rule.join(" | "))
    }
}

/// Text that Markdown takes for nothing but text.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '#' => escaped.extend(['\\', character]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\n' | '\r' => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_cell() {
        let table = Table {
            title: String::new(),
            header: vec!["model".to_owned(), "x".to_owned()],
            rows: vec![vec!["a|b\n<b>".to_owned(), "1".to_owned()]],
        };
        assert_eq!(table.markdown(), "| model | x |\n| --- | ---: |\n| a\\|b &lt;b&gt; | 1 |\n");
    }
}
