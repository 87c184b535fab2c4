//! Columns, as docker's table writer aligns them.

/// Rows of cells under a heading; the last column ends where its text does.
pub(crate) struct Table(String);

const BETWEEN: usize = 3;
const NARROWEST: usize = 10;

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Table {
        Table(heading.join("\t") + "\n")
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0 += &(cells.join("\t") + "\n");
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&align(&self.0))
    }
}

/// Aligns cells that end with a tab. A column is as wide as its widest cell and three blanks, but never under ten, for as
/// many lines in a row as have a cell there; what comes after a line's last tab is in no column (Go's text/tabwriter).
pub(crate) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = vec![Vec::new(); lines.len()];
    let most = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..most.saturating_sub(1) {
        let has = |line: usize| lines[line].len() > column + 1;
        let mut start = 0;
        while start < lines.len() {
            let end = (start..lines.len()).find(|line| !has(*line)).unwrap_or(lines.len());
            let widest = (start..end).map(|line| lines[line][column].chars().count()).max().unwrap_or(0);
            widths[start..end].iter_mut().for_each(|line| line.push((widest + BETWEEN).max(NARROWEST)));
            start = end.max(start + 1);
        }
    }
    let mut aligned = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(&widths) {
        for (index, cell) in cells.iter().enumerate() {
            aligned += cell;
            let blanks = widths.get(index).map_or(0, |width| width.saturating_sub(cell.chars().count()));
            aligned.extend(std::iter::repeat_n(' ', blanks));
        }
        aligned.push('\n');
    }
    aligned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
        assert_eq!(table.to_string(), "DRIVER    VOLUME NAME\n");
        table.row(["local".into(), "db".into()]);
        table.row(["a-longer-driver".into(), String::new()]);
        assert_eq!(
            table.to_string(),
            "DRIVER            VOLUME NAME\nlocal             db\na-longer-driver   \n"
        );
    }

    #[test]
    fn a_column_ends_with_the_lines_that_have_it() {
        assert_eq!(
            align("a\tb\nlonger than ten\tc\nno column\nd\te\n"),
            "\
a                 b
longer than ten   c
no column
d         e
"
        );
    }
}
