# ruff: noqa: E501
"""Answers that compute nothing and try to be paid, and answers that try to do harm. Each stands for a way in.

COURSE, OUTSIDE, KEPT and FOLDER stand for paths of the grader's machine: the reference, a file that must not appear, a
kept grade and its folder.
"""

FORGERIES = {
    "assert_close exchanged": "import torch.testing as t; t.assert_close.__code__ = (lambda *a, **k: None).__code__",
    "comparison exchanged": "[setattr(m, n, lambda *a, **k: None) for m in list(__import__('sys').modules.values()) "
                            "for n in ('assert_tensor', 'assert_close', 'judged') if hasattr(m, n)]",
    "grader imported": "import grader.plugin as p; p.judged = lambda *a: p.Outcome('passed')",
    "grading imported": "import grading; grading.judge = lambda *a: grading.Outcome('passed')",
    "conftest imported": "import conftest; conftest.assert_tensor = lambda *a, **k: None",
    "notebook's points": "from tests.notebook import points; return points('05_gradcam', '5.1')",
    "pytest patched": "import pytest; pytest.approx = lambda *a, **k: type('A', (), {'__eq__': lambda *b: True})()",
    "frames walked": "import sys; f = sys._getframe()\nwhile f:\n    f.f_locals.get('source'); f.f_globals.update(passed=True); f = f.f_back",
    "garbage searched": "import gc; found = [o for o in gc.get_objects() if isinstance(o, dict) and 'reference' in o]; return found[0]['reference']",
    "reference read": "return open('COURSE/05_gradcam.py').read()",
    "reference by torchvision": "import torchvision; return torchvision.io.read_file('COURSE/05_gradcam.py')",
    "reference searched": "import os; hits = [os.path.join(p, f) for r in ('/course', '/work', '/tmp') for p, _, fs in os.walk(r) "
                          "for f in fs if f.startswith(('05_', 'lrp')) and f.endswith('.py')]; return open(hits[0]).read()",
    "tests searched": "import os; return [open(os.path.join(p, f)).read() for p, _, fs in os.walk('/course') for f in fs if 'test_points' in f][0]",
    "lying number": "return type('F', (float,), {'__eq__': lambda *a: True, '__ne__': lambda *a: False, '__abs__': lambda s: s})(0)",
    "lying tensor": "import torch; return type('T', (torch.Tensor,), {'__torch_function__': classmethod(lambda *a, **k: True)})()",
    "pickle in the answer": "return type('P', (), {'__reduce__': lambda s: (print, ('passed',))})()",
    "words on every pipe": "import os\nfor fd in range(3, 40):\n    try: os.write(fd, b'\\0' * 7 + b'\\7ready 1')\n    except OSError: pass",
    "answers forged": "import sys; w = sys.modules['__main__'].wire; pack = w.pack; "
                      "w.pack = lambda v, k: pack({'number': v.get('number'), 'result': True, 'changed': [], 'drawn': False}, k)",
    "answers of another number": "import sys; w = sys.modules['__main__'].wire; pack = w.pack; w.pack = lambda v, k: pack({**v, 'number': 1}, k)",
    "exit with success": "import os; os._exit(0)",
    "skip": "import pytest; pytest.skip('not needed')",
    "expected failure": "import pytest; pytest.xfail('of course')",
    "memory of the parent": "import os; return open(f'/proc/{os.getppid()}/mem', 'rb').read(10)",
    "environment of the judge": "import os; return [open(f'/proc/{p}/environ').read() for p in os.listdir('/proc') if p.isdigit()]",
    "stack inspected": "import inspect; return [i.frame.f_locals for i in inspect.stack()][-1]['answer']",
    "signal to the judge": "import os, signal; os.kill(1, signal.SIGUSR1)",
}  # fmt: skip

DAMAGE = {
    "parent killed": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "everything killed": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "parent by its descriptor": "import os, signal; signal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGKILL)",
    "a file written by torchvision": "import torch, torchvision; torchvision.io.write_file('OUTSIDE', torch.zeros(3, dtype=torch.uint8))",
    "a file written": "open('OUTSIDE', 'w').write('here')",
    "a file removed": "import os; os.remove('KEPT')",
    "a grade changed": "open('KEPT', 'w').write('full points')",
    "a folder removed": "import shutil; shutil.rmtree('FOLDER')",
    "a shell": "import os; os.system('echo here > OUTSIDE')",
    "a process that stays": "import subprocess; subprocess.Popen(['sh', '-c', 'sleep 30; echo here > OUTSIDE'], start_new_session=True)",
    "orphans": "import _posixsubprocess, os\nfor _ in range(5):\n    if os.fork() == 0:\n        os.setsid(); __import__('time').sleep(60); os._exit(0)",
    "a datagram": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "a thread that writes on": "import threading, os\ndef w():\n    while True:\n        for fd in range(3, 12):\n"
                               "            try: os.write(fd, b'x' * 100)\n            except OSError: pass\n"
                               "threading.Thread(target=w, daemon=True).start(); __import__('time').sleep(1)",
    "a file that grows": "f = open('/tmp/big', 'wb')\nwhile True: f.write(b'x' * (1 << 20))",
    "many files": "import os\nfor i in range(20000): open(f'/tmp/many{i}', 'w').close()",
    "memory": "hoard = []\nwhile True: hoard.append(bytearray(1 << 26))",
    "a huge answer": "import torch; return torch.zeros(1 << 28)",
    "a deep answer": "a = []\nfor _ in range(100000): a = [a]\nreturn a",
    "a fork bomb": "import os\nwhile True:\n    try: os.fork()\n    except OSError: break",
    "no end": "while True: pass",
    "no end that catches": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "a crash": "import ctypes; ctypes.string_at(0)",
    "signals ignored": "import signal; [signal.signal(s, signal.SIG_IGN) for s in (15, 2, 14)]\nwhile True: pass",
    "limits lifted": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))",
}  # fmt: skip
