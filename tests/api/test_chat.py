#!/usr/bin/env python3
"""Chat as a person at a terminal meets it, and the same program at the end of a pipe.

usage: test_chat.py WICK-BINARY     (run from the repository root; standard library only)

The model is a copy of tests/golden/tiny/llama.gguf with a chat template and a longer context. Its words are noise, so
the tests look at the conversation that /save writes, at the screen, and at the terminal's attributes."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time

WICK = os.path.abspath(sys.argv[1])
TINY = "tests/golden/tiny/llama.gguf"
TEMPLATE = ("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}")
SLOW = float(os.environ.get("WICK_TEST_SLOW", "1")) * (10 if os.environ.get("WICK_SANITIZED") else 1)
passed = failed = 0
tmp = ""


def check(name, ok, detail=""):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: {detail}")


# ---- a model that can chat ------------------------------------------------------------------------------------


class Gguf:
    """Just enough of a GGUF reader to add keys at the end of the metadata and to change u32 values."""
    SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def __init__(self, data):
        self.data, self.at = data, 24
        self.n_tensor, self.n_kv = struct.unpack_from("<QQ", data, 8)
        self.values = {}
        for _ in range(self.n_kv):
            key = self.string()
            kind = self.number("<I")
            self.values[key] = (kind, self.at)
            self.skip(kind)
        self.kv_end = self.at
        for _ in range(self.n_tensor):
            self.string()
            n_dim = self.number("<I")
            self.at += 8 * n_dim + 12
        self.info_end = self.at

    def number(self, fmt):
        v = struct.unpack_from(fmt, self.data, self.at)[0]
        self.at += struct.calcsize(fmt)
        return v

    def string(self):
        n = self.number("<Q")
        self.at += n  # after the length has been read
        return self.data[self.at - n:self.at].decode()

    def skip(self, kind):
        if kind == 8:
            self.string()
        elif kind == 9:
            inner, n = self.number("<I"), self.number("<Q")
            for _ in range(n):
                self.skip(inner)
        else:
            self.at += self.SIZES[kind]

    def rewritten(self, strings, u32):
        def pad(n):
            return -n % 32

        out = bytearray(self.data[:self.kv_end])
        for key, value in u32.items():
            struct.pack_into("<I", out, self.values[key][1], value)
        for key, value in strings.items():
            k, v = key.encode(), value.encode()
            out += struct.pack("<Q", len(k)) + k + struct.pack("<IQ", 8, len(v)) + v
        struct.pack_into("<Q", out, 16, self.n_kv + len(strings))
        out += self.data[self.kv_end:self.info_end]
        out += b"\0" * pad(len(out))
        return bytes(out) + self.data[self.info_end + pad(self.info_end):]


def make_model(path, template=TEMPLATE, name="Talker"):
    with open(TINY, "rb") as f:
        g = Gguf(f.read())
    strings = {"tokenizer.chat_template": template, "general.name": name}
    strings = {k: v for k, v in strings.items() if k not in g.values}
    with open(path, "wb") as f:
        f.write(g.rewritten(strings, {"llama.context_length": 131072}))
    return path


# ---- a terminal -----------------------------------------------------------------------------------------------


def environment(extra=None):
    keep = ("PATH", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS")
    e = {k: os.environ[k] for k in keep if k in os.environ}
    e.update(HOME=tmp, TERM="xterm", LC_ALL="C.UTF-8")
    e.update(extra or {})
    return {k: v for k, v in e.items() if v is not None}


class Terminal:
    """wick on a pseudo terminal; everything it shows is in self.screen."""

    def __init__(self, args, env=None, rows=30, cols=100, stdout=None):
        self.screen = ""
        self.raw = b""
        master, slave = pty.openpty()
        self.fd, self.slave = master, slave
        self.resize(rows, cols, False)
        self.before = termios.tcgetattr(slave)

        def child():
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.p = subprocess.Popen([WICK] + args, stdin=slave, stdout=stdout or slave, stderr=slave,
                                  env=environment(env), preexec_fn=child, close_fds=True)

    def resize(self, rows, cols, tell=True):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
        if tell:
            self.p.send_signal(signal.SIGWINCH)

    def pump(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            got = os.read(self.fd, 65536)
        except OSError:
            return False
        self.raw += got
        self.screen = self.raw.decode("utf-8", "replace")
        return bool(got)

    def wait(self, text, seconds=20.0, since=0):
        """Until text is on the screen behind position since; its end, or -1."""
        end = time.monotonic() + seconds * SLOW
        while time.monotonic() < end:
            at = self.screen.find(text, since)
            if at >= 0:
                return at + len(text)
            self.pump(0.05)
        return -1

    def ready(self, since=0):
        """The prompt is shown and the editor has the terminal (paste mode is switched on with it)."""
        at = self.wait("\033[?2004h", since=since)
        return self.wait("> ", since=max(at, 0)) if at >= 0 else -1

    def send(self, text):
        os.write(self.fd, text if isinstance(text, bytes) else text.encode())

    def command(self, text):
        """A line, and the prompt behind it."""
        since = len(self.screen)
        self.send(text + "\r")
        return self.ready(self.wait("\033[?2004l", since=since))

    def settled(self, seconds=0.3):
        while self.pump(seconds * SLOW):
            pass

    def close(self, seconds=20):
        """Exit code; 'stuck' when it does not end."""
        end = time.monotonic() + seconds * SLOW
        while self.p.poll() is None and time.monotonic() < end:
            self.pump(0.05)
        while self.pump(0.05):
            pass
        code = self.p.poll()
        if code is None:
            self.p.kill()
            self.p.wait()
            code = "stuck"
        self.after = termios.tcgetattr(self.slave)
        os.close(self.slave)
        os.close(self.fd)
        return code

    def restored(self):
        """Attributes as before, and paste mode off again."""
        on, off = self.screen.rfind("\033[?2004h"), self.screen.rfind("\033[?2004l")
        return self.after == self.before and off >= on


def chat(*extra, env=None, n=8, **kw):
    return Terminal(["chat", "-m", MODEL, "-n", str(n), "-c", "2048", "--temp", "0", *extra], env=env, **kw)


def saved(t, name="talk.json"):
    """The conversation, by /save."""
    path = os.path.join(tmp, name)
    if os.path.exists(path):
        os.unlink(path)
    t.command("/save " + path)
    with open(path, encoding="utf-8") as f:
        return json.load(f)["messages"]


def users(messages):
    return [m["content"] for m in messages if m["role"] == "user"]


def leave(t, name, code=0):
    t.send("\x04")
    got = t.close()
    check(f"{name}: Ctrl-D leaves", got == code, f"{got}: {t.screen[-300:]!r}")
    check(f"{name}: the terminal is as before", t.restored(), f"{t.before} {t.after}")


# ---- editing --------------------------------------------------------------------------------------------------


def lines():
    t = chat()
    check("prompt", t.ready() > 0 and "bind" not in t.screen, repr(t.screen))
    t.command("hello")
    t.command("gr\u00fc\u00dfe \u65e5\u672c")
    t.command("one\\\r" "two\\\\\\\r" "three")
    t.command('"""\rblock 1\r  block 2\r"""')
    t.command('"""in one line"""')
    t.send("alt\x1b\r")
    t.command("enter")
    t.send("abX\x7f\x1b[D")  # delete, left
    t.command("-")
    got = users(saved(t))
    want = ["hello", "gr\u00fc\u00dfe \u65e5\u672c", "one\ntwo\\\\\nthree", "block 1\n  block 2", "in one line", "alt\nenter",
            "a-b"]
    check("lines arrive", got == want, f"{got}")
    leave(t, "lines")
    t = chat()
    t.ready()
    t.send("typed\rahead \u00e9\r\x04")
    got = t.close()
    check("what is typed during an answer is read after it", got == 0 and t.restored() and t.screen.count("tok/s") == 2,
          f"{got} {t.screen[-300:]!r}")


def paste():
    t = chat()
    t.ready()
    text = "\n".join(f"line {i}\tof \u00e9 twenty" for i in range(20))
    t.send("see: \x1b[200~" + text.replace("\n", "\r") + "\x1b[201~")
    t.settled()
    t.command(" end")
    slash = "/exit\n\"\"\"\nC:\\"  # several lines are never a command
    t.send("\x1b[200~" + slash + " \x1b[201~")
    t.settled()
    t.command("")
    t.send("\x1b[200~\x1b[201~")
    t.command("empty paste")
    keys = "a\x03b\x1ac\x1cd\x04e\x15f\x7f\x1b[A\x1b[200~ g"  # keys that mean something elsewhere
    t.send("\x1b[200~" + keys + "\x1b[201~")
    t.settled()
    t.command("")
    got = users(saved(t))
    check("a paste is one message", got == ["see: " + text + " end", slash + " ", "empty paste", keys], f"{got}")
    leave(t, "paste")
    check("paste mode is off while an answer is made",
          t.screen.count("\033[?2004h") == t.screen.count("\033[?2004l"), "")


def long_paste():
    t = chat()
    t.ready()
    chunk = b"y" * 1000
    t.send("\x1b[200~")
    for _ in range(1100):
        os.write(t.fd, chunk)
        t.pump(0)
    t.send("\x1b[201~")
    t.settled()
    since = len(t.screen)
    t.command("small")
    check("a paste over the limit is said", t.wait("1 MiB", 5, since) > 0, t.screen[since:][-200:])
    check("and not taken", users(saved(t)) == ["small"], "")
    leave(t, "long paste")


def history():
    path = os.path.join(tmp, ".local/state/wick/history")
    if os.path.exists(path):
        os.unlink(path)
    t = chat("-c", "16384")
    t.ready()
    t.command("first \\ message")
    t.command('"""two\rlines"""')
    t.command("needle " + "z" * 3000)
    leave(t, "history")
    check("history file", os.path.exists(path), path)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    check("history mode", mode == 0o600, oct(mode))
    with open(path, encoding="utf-8") as f:
        kept = f.read().split("\n")
    check("history text", kept == ["first \\\\ message", "two\\nlines", "needle " + "z" * 3000, ""], f"{kept}")
    check("no stray files", os.listdir(os.path.dirname(path)) == ["history"], f"{os.listdir(os.path.dirname(path))}")
    t = chat("-c", "16384")
    t.ready()
    t.send("\x1b[A\x1b[A")  # up, up
    t.settled()
    t.command("")
    t.send("\x12needle\x1b")  # Ctrl-R, Escape ends the search
    t.settled()
    t.command("")
    got = users(saved(t))
    check("history comes back", got[:1] == ["two\nlines"], f"{got[:1]}")
    check("Ctrl-R finds, nothing is cut", got[1:] == ["needle " + "z" * 3000], f"{[g[:80] for g in got[1:]]}")
    leave(t, "history again")
    os.chmod(path, 0o600)
    with open(path, "wb") as f:
        f.write(b"\xff\xfe\0broken")
    t = chat()
    check("a broken history is said", t.ready() > 0 and "history" in t.screen, t.screen[-300:])
    t.command("x")
    leave(t, "broken history")
    with open(path, "rb") as f:
        check("and left alone", f.read() == b"\xff\xfe\0broken", "")
    os.unlink(path)


def completion():
    t = chat()
    t.ready()
    t.command("keep this")
    saved(t, "tab.json")
    since = len(t.screen)
    t.command("/sta\t")
    check("Tab completes a command", "tok/s" in t.screen[since:], t.screen[since:])
    since = len(t.screen)
    t.send("/s\t")
    check("Tab lists", all(t.wait(w, 5, since) > 0 for w in ("/system", "/set", "/save")), t.screen[since:])
    t.settled()
    since = len(t.screen)
    t.command("et")
    check("and goes on behind the list", "max-tokens" in t.screen[since:], t.screen[since:])
    since = len(t.screen)
    t.command("/set min\t0.25")
    check("Tab completes a setting", "min-p is now 0.25" in t.screen[since:], t.screen[since:])
    t.command("/clear")
    since = len(t.screen)
    t.command("/load " + tmp + "/tab\t")
    check("Tab completes a file", "2 messages are back" in t.screen[since:], t.screen[since:])
    leave(t, "completion")


def resize():
    t = chat(cols=100)
    t.ready()
    t.send("a" * 150)
    t.settled()
    t.resize(24, 40)
    t.settled()
    t.send("b" * 60)
    t.settled()
    t.resize(50, 132)
    t.settled()
    t.command("c")
    check("resizing loses nothing", users(saved(t)) == ["a" * 150 + "b" * 60 + "c"], f"{users(saved(t))}")
    t.send("\x1a")  # Ctrl-Z
    end = time.monotonic() + 5 * SLOW
    pid = 0
    while not pid and time.monotonic() < end:
        t.pump(0.05)
        pid, how = os.waitpid(t.p.pid, os.WUNTRACED | os.WNOHANG)
    check("Ctrl-Z stops", pid == t.p.pid and os.WIFSTOPPED(how), f"{pid}")
    check("with the terminal as before", termios.tcgetattr(t.slave) == t.before, "")
    since = len(t.screen)
    t.p.send_signal(signal.SIGCONT)
    t.ready(since)
    t.command("back")
    check("and goes on", users(saved(t))[-1:] == ["back"], "")
    leave(t, "resize")


# ---- signals --------------------------------------------------------------------------------------------------


def interrupt():
    t = Terminal(["chat", "-m", MODEL, "-c", "100000", "--seed", "3", "--ignore-eos"])
    t.ready()
    t.send("tell me\r")
    at = t.wait("\033[?2004l")
    t.wait("tell me")
    end = time.monotonic() + 20 * SLOW
    while len(t.screen) < at + 200 and time.monotonic() < end:
        t.pump(0.05)
    t.send("\x03")
    check("Ctrl-C stops an answer", t.wait("what was said is kept", 20) > 0, t.screen[-300:])
    t.ready(at)
    messages = saved(t)
    check("and keeps it", len(messages) == 2 and len(messages[1]["content"]) > 20, f"{len(messages)}")
    t.send("half a line\x03")
    t.settled()
    since = len(t.screen)
    t.send("\x03")
    check("at the prompt it says how to leave", t.wait("Ctrl-D", 5, since) > 0, t.screen[since:])
    time.sleep(1.2)
    since = len(t.screen)
    t.send("\x03")
    check("later it says so again", t.wait("Ctrl-D", 5, since) > 0, t.screen[since:])
    t.send("\x03")
    code = t.close()
    check("a second one leaves", code == 130, f"{code}")
    check("restored after Ctrl-C", t.restored(), "")


def terminate():
    for sig, code in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        t = chat()
        t.ready()
        t.send("half")
        t.settled()
        t.p.send_signal(sig)
        got = t.close()
        check(f"{sig.name} at the prompt", got == code, f"{got}")
        check(f"{sig.name}: restored", t.restored(), f"{t.screen[-100:]!r}")
    t = Terminal(["chat", "-m", MODEL, "-c", "100000", "--seed", "3", "--ignore-eos"])
    t.ready()
    t.send("tell me\r")
    t.wait("\033[?2004l")
    time.sleep(0.3)
    t.p.send_signal(signal.SIGTERM)
    got = t.close()
    check("SIGTERM in an answer", got == 143, f"{got}: {t.screen[-200:]!r}")
    check("restored after it", t.restored(), "")
    if not os.environ.get("WICK_SANITIZED"):
        t = chat()
        t.ready()
        t.p.send_signal(signal.SIGSEGV)
        got = t.close()
        check("a crash is a crash", got == -signal.SIGSEGV, f"{got}")
        check("and the terminal is restored", t.restored(), f"{t.screen[-60:]!r}")
    p = subprocess.Popen([WICK, "run", "-q", "-m", MODEL, "--raw", "-c", "100000", "--ignore-eos", "tell me"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    first = p.stdout.read(20)
    p.send_signal(signal.SIGINT)
    rest, err = p.communicate(timeout=60)
    check("SIGINT ends run with 130 and what was said", p.returncode == 130 and len(first) == 20 and
          rest.endswith(b"\n") and err == b"", f"{p.returncode} {err!r}")


# ---- commands -------------------------------------------------------------------------------------------------


def commands():
    t = chat("--system", "be brief")
    t.ready()
    t.command("one")
    t.command("two")
    check("system", saved(t)[0] == {"role": "system", "content": "be brief"}, f"{saved(t)[:1]}")
    t.command("/undo")
    m = saved(t)
    check("/undo", users(m) == ["one"] and len(m) == 3, f"{m}")
    t.command("/retry")
    check("/retry, greedy", saved(t) == m, f"{saved(t)} {m}")
    t.command("/set temp 1.5")
    t.command("/set seed 7")
    t.command("/retry")
    other = saved(t)
    check("/set and /retry", users(other) == ["one"] and other[-1] != m[-1], f"{other}")
    t.command("/retry")
    check("another /retry, another seed", saved(t)[-1] != other[-1], f"{other[-1]}")
    since = len(t.screen)
    for bad, word in (("/set temp 101", "100"), ("/set tmep 1", "temp"), ("/set ctx 99", "no setting"), ("/nope", "/help"),
                      ("/load /nothing.json", "nothing.json"), ("/file " + MODEL, "UTF-8"), ("/s", "unknown"),
                      ("/model /nothing.gguf", "nothing.gguf"), ("/model " + TINY, "template"), ("/clear x", "nothing")):
        since = len(t.screen)
        t.command(bad)
        check(f"{bad.split(' /')[0]} is refused", "wick: " in t.screen[since:] and word in t.screen[since:].replace("\r\n", " "),
              t.screen[since:])
    t.command("/system none")
    check("/system none", saved(t)[0]["role"] == "user", "")
    t.command("/system be long and \u00fc")
    with open(os.path.join(tmp, "note.txt"), "w", encoding="utf-8") as f:
        f.write("from a file\nline 2")
    t.command("/file ~/note.txt")
    t.command("what is this?")
    check("/file", users(saved(t))[-1] == "from a file\nline 2\nwhat is this?", f"{users(saved(t))[-1]!r}")
    kept = saved(t, "kept.json")
    mode = stat.S_IMODE(os.stat(os.path.join(tmp, "kept.json")).st_mode)
    check("/save is private", mode == 0o600, oct(mode))
    t.command("/clear")
    check("/clear", [m["role"] for m in saved(t)] == ["system"], f"{saved(t)}")
    t.command("/load " + tmp + "/kept.json")
    check("/load", saved(t) == kept, f"{saved(t)} {kept}")
    since = len(t.screen)
    t.command("/save " + tmp + "/note.txt")
    with open(os.path.join(tmp, "note.txt"), encoding="utf-8") as f:
        check("/save spares other files", f.read() == "from a file\nline 2" and "left alone" in t.screen[since:], "")
    since = len(t.screen)
    t.command("/stats")
    check("/stats", "tok/s" in t.screen[since:] and "of 2048 tokens" in t.screen[since:], t.screen[since:])
    since = len(t.screen)
    t.command("/set")
    check("/set alone", re.search(r"temp +1\.5 +/set", t.screen[since:]) is not None, t.screen[since:])
    other = make_model(os.path.join(tmp, "other.gguf"), name="Other")
    since = len(t.screen)
    t.command("/model " + other)
    check("/model", "Other" in t.screen[since:], t.screen[since:])
    t.command("still there?")
    check("the conversation is kept", saved(t)[:len(kept)] == kept, "")
    since = len(t.screen)
    t.command("/help")
    check("/help", all(w in t.screen[since:] for w in ("/retry", "/edit", "Alt-Enter")), t.screen[since:])
    t.send("/exit\r")
    check("/exit", t.close() == 0 and t.restored(), "")


def bad_files():
    cases = {"array": "[]", "no messages": '{"a":1}', "answerless": '[{"role":"user","content":"x"}]',
             "wrong order": '[{"role":"assistant","content":"x"}]', "no text": '[{"role":"user","content":5}]',
             "not json": "{", "deep": "[" * 5000, "late system": '[{"role":"user","content":"x"},{"role":"system","content":"y"}]'}
    t = chat()
    t.ready()
    t.command("keep me")
    for name, text in cases.items():
        path = os.path.join(tmp, "bad.json")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        since = len(t.screen)
        t.command("/load " + path)
        if name == "array":
            check("/load of nothing", "0 messages" in t.screen[since:], t.screen[since:])
            t.command("keep me")
        else:
            check(f"/load {name}", "wick: " in t.screen[since:] and users(saved(t)) == ["keep me"], t.screen[since:])
    leave(t, "bad files")


def editor():
    script = os.path.join(tmp, "ed.sh")
    with open(script, "w", encoding="utf-8") as f:
        f.write('#!/bin/sh\n[ -t 0 ] || exit 3\nprintf "edited\\nby %s" "$(cat "$1")" > "$1.x" && mv "$1.x" "$1"\n')
    os.chmod(script, 0o700)
    t = chat(env={"EDITOR": script, "TMPDIR": tmp})
    t.ready()
    t.command("/edit a draft")
    check("/edit", users(saved(t)) == ["edited\nby a draft"], f"{users(saved(t))}")
    check("no file is left", not [f for f in os.listdir(tmp) if f.startswith("wick-message")], f"{os.listdir(tmp)}")
    leave(t, "editor")
    t = chat(env={"EDITOR": "false"})
    t.ready()
    since = len(t.screen)
    t.command("/edit")
    check("an editor that fails", "EDITOR" in t.screen[since:] and saved(t) == [], t.screen[since:])
    leave(t, "failing editor")


# ---- screen ---------------------------------------------------------------------------------------------------


def screen():
    t = chat(env={"NO_COLOR": None})
    t.ready()
    t.command("hello")
    footer = re.search(r"\d+ prompt \(\d+ cached\) \u00b7 \d+ tok \u00b7 [\d.]+ tok/s \u00b7 first [\d.]+ s \u00b7 ctx \d+/2048", t.screen)
    check("footer", footer is not None, t.screen[-300:])
    check("colour", "\033[2m" in t.screen and "\033[1m" in t.screen, repr(t.screen))
    leave(t, "colour")
    t = chat(env={"NO_COLOR": "1"})
    t.ready()
    t.command("hello")
    check("NO_COLOR", re.search("\033\\[[0-9;]*m", t.screen) is None and "tok/s" in t.screen, repr(t.screen))
    leave(t, "no colour")
    t = chat("--color", "always", env={"NO_COLOR": "1"})
    t.ready()
    t.command("hello")
    check("--color always", "\033[2m" in t.screen, repr(t.screen))
    leave(t, "colour always")
    t = chat("-v", env={"TERM": "dumb"})
    t.wait("> ")
    t.send("hello\r")
    t.wait("\n> ")
    check("TERM=dumb: no escape at all", "\033" not in t.screen and "plain lines" in t.screen, repr(t.screen))
    leave(t, "dumb")
    check("TERM=dumb: Ctrl-D", t.screen.count("> ") >= 2, repr(t.screen))
    t = chat("-q")
    t.ready()
    t.command("hello")
    check("-q leaves the answer and the prompt", "tok/s" not in t.screen and "ctx" not in t.screen and "/help" not in t.screen,
          repr(t.screen))
    leave(t, "quiet")
    # the answer to a file, the interface on the terminal
    with open(os.path.join(tmp, "answer"), "wb") as f:
        t = Terminal(["run", "-m", MODEL, "-n", "4", "--temp", "0", "hi"], stdout=f)
        code = t.close()
    with open(os.path.join(tmp, "answer"), "rb") as f:
        text = f.read()
    check("stdout is the answer only", code == 0 and text.endswith(b"\n") and b"tok/s" not in text and "tok/s" in t.screen,
          f"{code} {text!r}")


def full_context():
    t = Terminal(["chat", "-m", MODEL, "-c", "128", "--seed", "1"])
    t.ready()
    t.command("hello")
    check("a full context is said", "128 tokens" in t.screen and "/clear would free" in t.screen, t.screen[-400:])
    messages = saved(t)
    check("and nothing is dropped", len(messages) == 2, f"{len(messages)}")
    since = len(t.screen)
    t.command("and now? " * 10)
    check("a message that does not fit", "wick: " in t.screen[since:] and "/clear would free" in t.screen[since:],
          t.screen[since:])
    check("is taken back", saved(t) == messages, "")
    t.command("/clear")
    t.command("x")
    check("/clear frees", len(saved(t)) == 2, "")
    leave(t, "full context")


# ---- pipes ----------------------------------------------------------------------------------------------------


def pipe(text, *extra, cmd="chat", env=None):
    p = subprocess.run([WICK, cmd, "-m", MODEL, "-n", "8", "--temp", "0", *extra], input=text.encode(),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(env), timeout=60 * SLOW)
    return p.returncode, p.stdout, p.stderr.decode("utf-8", "replace")


def pipes():
    path = os.path.join(tmp, "piped.json")
    code, out, err = pipe(f'hello\n\none\\\ntwo\n"""\nb 1\nb 2\n"""\n/save {path}\n')
    with open(path, encoding="utf-8") as f:
        messages = json.load(f)["messages"]
    check("piped messages", code == 0 and users(messages) == ["hello", "one\ntwo", "b 1\nb 2"], f"{code} {messages} {err}")
    said = "".join(m["content"] + "\n" for m in messages if m["role"] == "assistant").encode()
    check("stdout is the answers", out == said, f"{out!r} {said!r}")
    check("no footer, no prompt, no escape", "tok/s" not in err and "> " not in err and "\033" not in err, err)
    code, out, err = pipe("hello\n", "-q")
    check("-q is silent", code == 0 and err == "" and out.count(b"\n") >= 1, f"{code} {err!r}")
    code, out, err = pipe("no newline at the end")
    check("a last line without a newline", code == 0 and len(out) > 1, f"{code} {err}")
    code, out, err = pipe('"""\nunclosed')
    check("a block that the end closes", code == 0 and len(out) > 1, f"{code} {out!r}")
    code, out, err = pipe("/nope\nhello\n/exit\nnever\n")
    check("a wrong command does not end it", code == 0 and "/nope" in err and len(out) > 1, f"{code} {err}")
    code, out, err = pipe("")
    check("nothing at all", code == 0 and out == b"", f"{code} {err}")
    check("no history of a pipe", not os.path.exists(os.path.join(tmp, ".local/state/wick/history")), "")
    code, out, err = pipe("word " * 300, "--batch", "16", cmd="run")
    steps = [int(m) for m in re.findall(r"^prompt (\d+) %", err, re.M)]
    check("progress lines off a terminal", code == 0 and 5 <= len(steps) <= 10 and steps == sorted(set(steps)), f"{steps} {err}")
    code, out, err = pipe("word " * 300, "--batch", "16", "-q", cmd="run")
    check("none with -q", code == 0 and err == "", err)
    p = subprocess.run(f"printf 'hello\\n' | {WICK} chat -q -m {MODEL} -n 8 > /dev/full", shell=True, env=environment(),
                       stderr=subprocess.PIPE, timeout=60 * SLOW)
    check("chat > /dev/full", p.returncode == 1 and p.stderr.startswith(b"wick: "), f"{p.returncode} {p.stderr!r}")


with tempfile.TemporaryDirectory() as tmp:
    MODEL = make_model(os.path.join(tmp, "talk.gguf"))
    only = sys.argv[2:]
    for f in (pipes, lines, paste, long_paste, history, completion, resize, interrupt, terminate, commands, bad_files,
              editor, screen, full_context):
        if not only or f.__name__ in only:
            f()
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
