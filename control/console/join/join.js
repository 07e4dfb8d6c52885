// Takes the secret of a link, which stands after "#", and either joins a tenant
// or sets a new password.
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname); // out of the address and of the history's list
const element = (id) => document.getElementById(id);
const joining = token.startsWith("parley_invite_");
const ways = {
  true: { path: "/v1/auth/accept-invitation", title: "Join", done: "You have joined. You can sign in now." },
  false: { path: "/v1/auth/reset-password", title: "Set a new password", done: "Your new password is set. You can sign in now." },
};
const way = ways[joining];

element("title").textContent = way.title;
element("name-row").hidden = !joining;
if (joining) element("hint").textContent += " If you have an account here already, give its password.";
if (!token) {
  element("form").hidden = true;
  element("status").textContent = "This link is not whole: open it again as you were sent it.";
}

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  element("status").textContent = "";
  const body = { token, password: element("password").value };
  if (joining && element("name").value) body.name = element("name").value;
  try {
    const answer = await fetch(way.path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    if (answer.ok) {
      element("form").hidden = true;
      element("status").textContent = way.done;
      return;
    }
    const problem = await answer.json();
    const faults = (problem.errors ?? []).map((e) => `${e.location} ${e.message}`);
    element("status").textContent = faults.join("; ") || problem.detail || "That did not work.";
  } catch {
    element("status").textContent = "The server does not answer; try again.";
  } finally {
    button.disabled = false;
  }
});
