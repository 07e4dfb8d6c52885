package postgres

// ShelvesOfTables returns, for each table that the shelves list, the columns
// that they name, in a test's own words: "" alone where none is.
func ShelvesOfTables() map[string][]string {
	named := map[string][]string{}
	for _, f := range shelves() {
		columns := append(append([]string{}, f.numbers...), f.users...)
		for _, c := range []string{f.session, f.age} {
			if c != "" {
				columns = append(columns, c)
			}
		}
		if len(columns) == 0 && f.why == "" {
			columns = []string{""}
		}
		named[f.table] = columns
	}
	return named
}
