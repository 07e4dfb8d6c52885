package identity

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"parley/control"
)

// leastPassword is how many characters a password has (NIST SP 800-63B asks for
// length and a look at what leaked, and against rules of composition).
const leastPassword = 12

// PasswordRules say which new passwords are taken. The zero value has the
// built-in list alone.
type PasswordRules struct {
	Breached *Breached // an operator's list; nil: none
}

// Check returns an [*control.Invalid] for a password that is too short or too
// long, that has leaked, or that is made of what everybody knows of the person.
func (r PasswordRules) Check(password, email, name string) error {
	refuse := func(reason string, args ...any) error { return control.Invalidf("password", reason, args...) }
	if len(password) > mostPassword {
		return refuse("must be at most %d bytes", mostPassword)
	}
	if !utf8.ValidString(password) {
		return refuse("holds what is no character")
	}
	normal := norm.NFKC.String(password)
	if utf8.RuneCountInString(normal) < leastPassword {
		return refuse("must be at least %d characters", leastPassword)
	}
	folded := strings.ToLower(normal)
	if mostly(folded, knownOf(email, name)) {
		return refuse("says little more than your name, your address or ours; take words that nobody would guess")
	}
	if monotonous(folded) || slices.Contains(common, folded) || slices.Contains(common, bare(folded)) {
		return refuse("is among the first that anybody would try; take others, such as four words that do not belong together")
	}
	if r.Breached == nil {
		return nil
	}
	leaked, err := r.Breached.Holds(normal)
	if err == nil && leaked {
		err = refuse("stands in lists of passwords that have leaked; take another")
	}
	return err
}

// knownOf lists what everybody knows: the address and its parts, the name and
// ours, those of 4 letters or more.
func knownOf(email, name string) []string {
	split := func(r rune) bool { return strings.ContainsRune("@.+-_ ", r) }
	email, name = strings.ToLower(email), strings.ToLower(norm.NFKC.String(name))
	list := append([]string{"parley", email}, strings.FieldsFunc(email, split)...)
	list = append(list, strings.FieldsFunc(name, split)...)
	return slices.DeleteFunc(list, func(s string) bool { return len(s) < 4 })
}

// mostly tells whether a password holds such words, and fewer than 8 characters
// besides: "parley" in a sentence is no weakness.
func mostly(password string, words []string) bool {
	rest := password
	for _, w := range words {
		rest = strings.ReplaceAll(rest, w, "")
	}
	return rest != password && utf8.RuneCountInString(rest) < 8
}

// monotonous tells whether a password has no more than 3 different characters,
// or runs up or down by one throughout.
func monotonous(s string) bool {
	seen := map[rune]bool{}
	up, down, last := true, true, rune(-1)
	for _, r := range s {
		if last >= 0 {
			up, down = up && (r == last+1 || last == '9' && r == '0'), down && (r == last-1 || last == '0' && r == '9')
		}
		seen[r], last = true, r
	}
	return len(seen) <= 3 || up || down
}

// bare is a password without the digits and signs that people hang on.
func bare(s string) string { return strings.TrimRight(s, "0123456789!?.*#$@-_") }

// common are the long passwords that most lists of leaked ones begin with, and
// those that guides use as examples. In lower case.
var common = []string{
	"123412341234", "121212121212", "112233445566", "102030405060", "147258369147", "123123123123", "123456123456",
	"123456789abc", "1234567890ab", "1234567890qwerty", "1q2w3e4r5t6y", "1q2w3e4r5t6y7u", "1q2w3e4r5t6y7u8i",
	"1qaz2wsx3edc", "1qaz2wsx3edc4rfv", "1qazxsw23edc", "q1w2e3r4t5y6", "qwertyuiop", "qwertyuiop12", "qwertyuiop[]", "qwertyuiopas",
	"qwertyuiopasdfgh", "qwertyuiopasdfghjkl", "qwertyuiopasdfghjklzxcvbnm", "qwerty123456", "qwertyqwerty", "qwerty12345678",
	"asdfghjkl", "asdfghjkl123", "asdfghjklzxcvbnm", "asdfasdfasdf", "zxcvbnmasdfg", "zaq12wsxcde3", "abcd1234abcd", "abc123abc123",
	"abcdefghijkl", "abcdefg12345", "password", "password1234", "password12345", "password123456", "passwordpassword", "passw0rdpassw0rd",
	"passw0rd1234", "p@ssw0rd1234", "p@ssword1234", "mypassword", "mypassword123", "newpassword", "newpassword1", "thisismypassword",
	"changeme", "changeme1234", "changemeplease", "changeit1234", "letmein", "letmeinplease", "letmeinletmein", "letmein12345",
	"administrator", "administrator1", "adminadmin", "adminadminadmin", "admin1234567", "admin12345678", "rootrootroot", "welcome",
	"welcome12345", "welcomewelcome", "welcomehome", "iloveyouiloveyou", "iloveyou", "iloveyou1234", "iloveyouforever", "iloveyousomuch",
	"iloveyoubaby", "trustno1trustno1", "footballfootball", "basketball", "basketball12", "manchesterunited", "liverpoolfc1", "princessprincess",
	"sunshine", "sunshine1234", "superman1234", "dragondragon", "monkeymonkey", "michaeljordan", "jesuschrist", "jesusislord", "correcthorsebatterystaple",
	"correct horse battery staple", "correct-horse-battery-staple", "secretsecret", "supersecret", "topsecret123", "test1234test", "testtesttest",
	"test12345678", "guestguest12", "defaultpassword", "temporary123", "temppassword", "companyname1", "spring2024spring", "summer2024summer",
	"autumn2024autumn", "winter2024winter", "abcdefghijklmnopqrstuvwxyz", "aaaabbbbcccc", "qazwsxedcrfv", "qazwsxedcrfvtgb", "1a2b3c4d5e6f",
	"a1b2c3d4e5f6", "poiuytrewq", "poiuytrewqlkjhgfdsa", "mnbvcxzlkjhg", "michelle1234", "whatever1234", "computer1234", "internet1234",
}
