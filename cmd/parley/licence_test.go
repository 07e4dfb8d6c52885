package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// licences are known by a phrase of their text, in the order of looking: what
// may not be in the program first, since such texts are added to others'.
var licences = []struct {
	name, phrase string
	taken        bool
}{
	{"AGPL", "GNU AFFERO GENERAL PUBLIC LICENSE", false},
	{"LGPL", "GNU LESSER GENERAL PUBLIC LICENSE", false},
	{"GPL", "GNU GENERAL PUBLIC LICENSE", false}, // MPL-2.0 speaks of it in other letters
	{"SSPL", "Server Side Public License", false},
	{"BUSL", "Business Source License", false},
	{"Elastic", "Elastic License", false},
	{"Commons Clause", "Commons Clause", false},
	{"MPL-2.0", "Mozilla Public License", true}, // of its own files, which we do not change
	{"Apache-2.0", "Apache License Version 2.0", true},
	{"MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy", true},
	{"BSD", "Redistribution and use in source and binary forms, with or without modification, are permitted", true},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted", true},
}

// licenceOf names the licence of a text; "" for one that is not known.
func licenceOf(text string) (name string, taken bool) {
	text = strings.Join(strings.Fields(text), " ")
	for _, l := range licences {
		if strings.Contains(text, l.phrase) {
			return l.name, l.taken
		}
	}
	return "", false
}

// Every module that is built into the program has a licence that lets us give
// it away with ours, Apache-2.0.
func TestLicences(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", ".")
	list.Env = append(os.Environ(), "CGO_ENABLED=0") // as the program is built
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	lines = slices.Compact(lines)
	if len(lines) < 50 {
		t.Fatalf("%d modules are built in: too few to be true", len(lines))
	}
	licenceFile := regexp.MustCompile(`(?i)^(licen[sc]e|copying|unlicense)(\.\w+)?$`)
	counts := map[string]int{}
	for _, line := range lines {
		module, dir, _ := strings.Cut(line, " ")
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, e := range entries {
			if e.IsDir() || !licenceFile.MatchString(e.Name()) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			name, taken := licenceOf(string(text))
			if found = true; !taken {
				t.Errorf("%s: %s is of licence %q, which may not be in the program", module, e.Name(), name)
			}
			counts[name]++
		}
		if !found {
			t.Errorf("%s has no licence", module)
		}
	}
	t.Logf("%d modules: %v", len(lines), counts)
}

func TestLicenceOf(t *testing.T) {
	for text, want := range map[string]string{
		"Apache License\n   Version 2.0, January 2004\n":                                                                "Apache-2.0",
		"MIT\n\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy of":                       "MIT",
		"Mozilla Public License Version 2.0\n ... the GNU General Public License, Version 2.0":                          "MPL-2.0",
		"                    GNU GENERAL PUBLIC LICENSE\n                       Version 3":                              "GPL",
		"“Commons Clause” License Condition v1.0\n... Apache License\n Version 2.0":                                     "Commons Clause",
		"License text copyright (c) 2020 MariaDB Corporation Ab\n\"Business Source License\" is a trademark of MariaDB": "BUSL",
		"All rights reserved. Nobody may use this.":                                                                     "",
	} {
		name, taken := licenceOf(text)
		if name != want || taken != slices.Contains([]string{"Apache-2.0", "MIT", "MPL-2.0"}, want) {
			t.Errorf("%.40q is %q, taken %v; want %q", text, name, taken, want)
		}
	}
}
