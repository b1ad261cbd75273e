"""The contexts that are open on a model: which come in which order, whose they are, and what comes back at the end.

Every attention module has a stack. Its top says which attention function the model calls. The implementation that was
set before the first context is kept until the last one is left, so that it comes back in whatever order they are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock, get_ident
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.utils.hooks import RemovableHandle

from corelib.attention.call import Program
from corelib.attention.decoder import attention_modules
from corelib.attention.positions import forget_place, note_place
from corelib.core.errors import BadInput


@dataclass(eq=False)
class Entry:
    """One open context: the name of the attention function it sets, and its program, if it has one."""

    name: str
    program: Program | None = None
    thread: int = field(default_factory=get_ident)


@dataclass
class _Stack:
    before: str  # the implementation that was set before the first context
    hook: RemovableHandle
    entries: list[Entry] = field(default_factory=list)


_stacks: WeakKeyDictionary[nn.Module, _Stack] = WeakKeyDictionary()
_lock = RLock()  # a generator that is closed late may leave its context while another one is entered


def active_programs(module: nn.Module) -> tuple[Program, ...]:
    """The programs that run in this attention module, the outermost first.

    Raises:
        BadInput: another thread opened them, or the module is a replica of the one that they were opened on.
    """
    stack = _stacks.get(module)
    if stack is None:
        if getattr(module, "_is_replica", False):
            raise BadInput("programs do not run under DataParallel: give the module inside it, on one device")
        return ()
    if any(entry.thread != get_ident() for entry in stack.entries):
        raise BadInput("another thread runs programs on this model: call it in that thread, or give this one a copy")
    return tuple(entry.program for entry in stack.entries if entry.program is not None)


@contextmanager
def entered(model: nn.Module, entry: Entry) -> Iterator[None]:
    """Put `entry` on the stacks of all attention modules, and take it away again.

    Raises:
        BadInput: another thread has contexts open on this model; a program is to run under gradient checkpointing;
            this context is left before one that was entered after it, or another implementation was set inside.
    """
    modules = attention_modules(model)
    if entry.program is not None:
        _refuse_checkpointing(model)
        refuse_attentions(asks_for_attentions(model))
    _push(modules, entry)
    try:
        yield
    except BaseException:
        _remove(modules, entry)
        raise
    if problem := _remove(modules, entry):
        raise BadInput(problem)


def _push(modules: list[nn.Module], entry: Entry) -> None:
    with _lock:
        opened = [one for module in modules if module in _stacks for one in _stacks[module].entries]
        if any(one.thread != entry.thread for one in opened):
            raise BadInput("another thread runs programs on this model: wait for it, or give each thread a copy")
        for module in modules:
            if module not in _stacks:
                hook = module.register_forward_pre_hook(note_place, with_kwargs=True)
                _stacks[module] = _Stack(_config(module)._attn_implementation, hook)
            _stacks[module].entries.append(entry)
        for module in modules:
            _set_implementation(module, entry.name)


def _remove(modules: list[nn.Module], entry: Entry) -> str | None:
    """Take the entry away and set what is then on top; what was wrong, if anything was."""
    problem = None
    with _lock:
        for module in modules:
            stack = _stacks[module]
            if stack.entries[-1] is not entry:
                problem = (
                    "a context was left before one that was entered after it: leave them in the opposite order of "
                    "entering, best by with statements. It is closed now; close the others, too"
                )
            elif (current := _config(module)._attn_implementation) != entry.name and problem is None:
                problem = (
                    f"the attention implementation became {current!r} inside the block, so its program did not run: "
                    "set it outside, or use attention_implementation"
                )
            stack.entries.remove(entry)
        for module in modules:
            stack = _stacks[module]
            _set_implementation(module, stack.entries[-1].name if stack.entries else stack.before)
            if not stack.entries:
                stack.hook.remove()
                forget_place(module)
                del _stacks[module]
    return problem


def asks_for_attentions(module: nn.Module) -> bool:
    """Does the configuration of a module ask for attention weights?"""
    return bool(getattr(getattr(module, "config", None), "output_attentions", False))


def refuse_attentions(asked: object) -> None:
    """Refuse `output_attentions=True`, if it is asked for.

    Raises:
        BadInput: it is.
    """
    if asked:
        raise BadInput(
            "output_attentions=True inside a program gives nothing, for attention is never built: leave it out, and "
            "read rows with record, or leave the block and set the eager implementation"
        )


def _refuse_checkpointing(model: nn.Module) -> None:
    if any(getattr(module, "gradient_checkpointing", False) and module.training for module in model.modules()):
        raise BadInput(
            "the model trains with gradient checkpointing, which computes layers again in backward, where a program "
            "would run twice or not at all: call model.gradient_checkpointing_disable() or model.eval() first"
        )


def _config(module: nn.Module) -> Any:
    return module.config


def _set_implementation(module: nn.Module, name: str) -> None:
    _config(module)._attn_implementation = {"": name}  # "": this config only, not those nested in it
