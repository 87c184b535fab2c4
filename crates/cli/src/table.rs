//! Columns, as docker's table writer aligns them.

/// Rows of cells under a heading. A column is as wide as its widest cell and three blanks, but never under ten; the last
/// one ends where its text does.
pub(crate) struct Table(Vec<Vec<String>>);

const BETWEEN: usize = 3;
const NARROWEST: usize = 10;

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Table {
        Table(vec![heading.iter().map(ToString::to_string).collect()])
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.into());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.0.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.0.iter().filter_map(|row| row.get(column));
                let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                (widest + BETWEEN).max(NARROWEST)
            })
            .collect();
        for row in &self.0 {
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if index + 1 == columns {
                    f.write_str(cell)?;
                } else {
                    write!(f, "{cell:width$}")?;
                }
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
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
}
