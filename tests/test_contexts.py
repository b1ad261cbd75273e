"""However the contexts of programs are left, the model comes back as it was, and what went wrong is said at once."""

from __future__ import annotations

import gc
import threading

import pytest
import torch
from tiny import tiny_inputs, tiny_model

from corelib.attention.interface import attention_implementation, attention_modules, core_attention, running
from corelib.attention.intervene import ablate, knockout
from corelib.attention.record import record
from corelib.core.errors import BadInput
from corelib.core.heads import HeadSet

FIRST, SECOND = HeadSet("L0H2"), HeadSet("L1H0 L1H5")


@pytest.fixture
def model():
    return tiny_model("smolvlm")


@pytest.fixture
def inputs():
    return tiny_inputs("smolvlm")


@torch.no_grad()
def is_as_it_was(model, inputs, plain) -> bool:
    hooks = [hook for module in attention_modules(model) for hook in module._forward_pre_hooks.values()]
    return not hooks and model.config.text_config._attn_implementation == "sdpa" and plain_logits(model, inputs, plain)


def plain_logits(model, inputs, plain) -> bool:
    return torch.equal(model(**inputs).logits, plain)


def in_a_thread(work):
    """What `work` returns or raises in another thread."""
    found = []

    def run():
        with torch.no_grad():
            try:
                found.append(work())
            except Exception as error:
                found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@torch.no_grad()
def test_contexts_left_in_any_order_leave_the_model(model, inputs, order):
    plain = model(**inputs).logits
    contexts = [ablate(model, FIRST), attention_implementation(model, "eager"), ablate(model, SECOND)]
    opened = []
    for context in contexts:
        context.__enter__()
        opened.append(context)
    for place in order:
        last = opened[-1] is contexts[place]
        opened.remove(contexts[place])
        if last:
            contexts[place].__exit__(None, None, None)
        else:
            with pytest.raises(BadInput, match="opposite order"):
                contexts[place].__exit__(None, None, None)
    assert is_as_it_was(model, inputs, plain)


@torch.no_grad()
def test_what_stays_open_after_a_wrong_exit_still_runs(model, inputs):
    with ablate(model, SECOND):
        wanted = model(**inputs).logits
    outer, inner = ablate(model, FIRST), ablate(model, SECOND)
    outer.__enter__(), inner.__enter__()
    with pytest.raises(BadInput, match="opposite order"):
        outer.__exit__(None, None, None)
    assert torch.equal(model(**inputs).logits, wanted)
    inner.__exit__(None, None, None)


@torch.no_grad()
def test_an_error_in_the_body_is_the_one_that_is_raised(model, inputs):
    plain = model(**inputs).logits
    with pytest.raises(KeyError), ablate(model, FIRST), record(model, -1):
        raise KeyError("on purpose")
    assert is_as_it_was(model, inputs, plain)
    outer, inner = ablate(model, FIRST), ablate(model, SECOND)
    outer.__enter__(), inner.__enter__()
    with pytest.raises(KeyError):  # out of order as well
        outer.gen.throw(KeyError("on purpose"))
    inner.__exit__(None, None, None)
    assert is_as_it_was(model, inputs, plain)


@torch.no_grad()
def test_generators_that_are_closed_late(model, inputs):
    plain = model(**inputs).logits

    def steps(heads):
        with ablate(model, heads):
            yield model(**inputs).logits
            yield model(**inputs).logits

    first = steps(FIRST)
    next(first)
    with ablate(model, SECOND):
        first.close()  # closed inside another block
        with ablate(model, FIRST):
            assert not torch.equal(model(**inputs).logits, plain)
    assert is_as_it_was(model, inputs, plain)
    second = steps(SECOND)
    next(second)
    del second
    gc.collect()
    assert is_as_it_was(model, inputs, plain)
    ablate(model, FIRST).__enter__()  # nobody holds it
    gc.collect()
    assert is_as_it_was(model, inputs, plain)


@torch.no_grad()
def test_a_second_thread_is_told_so(model, inputs):
    plain = model(**inputs).logits

    def enter():
        with ablate(model, SECOND):
            return model(**inputs).logits

    with ablate(model, FIRST):
        wanted = model(**inputs).logits
        assert isinstance(in_a_thread(enter), BadInput)
        assert isinstance(in_a_thread(lambda: model(**inputs).logits), BadInput)  # and no ablated answer
        assert torch.equal(model(**inputs).logits, wanted)
    assert is_as_it_was(model, inputs, plain)
    assert torch.equal(in_a_thread(lambda: model(**inputs).logits), plain)
    assert not torch.equal(in_a_thread(enter), plain)


@torch.no_grad()
def test_two_threads_with_a_model_each(model, inputs):
    other = tiny_model("smolvlm")

    def work():
        with ablate(other, FIRST):
            return other(**inputs).logits

    with ablate(model, FIRST):
        assert torch.equal(in_a_thread(work), model(**inputs).logits)


@torch.no_grad()
def test_replicas_are_told_so(model, inputs):
    module = attention_modules(model)[0]
    module._is_replica = True  # as DataParallel marks its copies
    with pytest.raises(BadInput, match="DataParallel"):
        core_attention(module, *torch.zeros(3, 1, 6, 2, 8), None)


@torch.no_grad()
def test_an_implementation_set_inside_is_told_so(model, inputs):
    plain = model(**inputs).logits
    with pytest.raises(BadInput, match="became 'eager' inside"), ablate(model, FIRST):
        model.set_attn_implementation({"text_config": "eager"})
    assert is_as_it_was(model, inputs, plain)


@torch.no_grad()
def test_weights_of_all_attention_are_refused_inside(model, inputs):
    plain = model(**inputs).logits
    with record(model, -1), pytest.raises(BadInput, match="output_attentions"):
        model(**inputs, output_attentions=True)
    model.set_attn_implementation("eager")
    assert len(model(**inputs, output_attentions=True).attentions) == 2
    for config in (model.config, model.config.text_config):
        config.output_attentions = True
        with pytest.raises(BadInput, match="output_attentions"), ablate(model, FIRST):
            model(**inputs)
        config.output_attentions = False
    model.set_attn_implementation("sdpa")
    assert is_as_it_was(model, inputs, plain)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_is_refused(model, inputs, reentrant):
    """Reentrant checkpointing computes layers again in backward, where the block may have been left."""
    hidden = torch.zeros_like(inputs["input_ids"]).bool()
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for context in (ablate(model, FIRST), record(model, -1), knockout(model, hidden, hidden)):
        with pytest.raises(BadInput, match="gradient checkpointing"):
            context.__enter__()
    with attention_implementation(model, "eager"):  # no program
        pass
    model.eval()
    with ablate(model, FIRST):
        pass
    model.train()
    model.gradient_checkpointing_disable()
    with ablate(model, FIRST):
        loss = model(**inputs).logits.square().mean()
    loss.backward()
    found = [module.q_proj.weight.grad.clone() for module in attention_modules(model)]
    model.zero_grad()

    def hook(module, arguments):
        changed = arguments[0].clone()
        changed[..., 16:24] = 0
        return (changed,)

    handle = attention_modules(model)[0].o_proj.register_forward_pre_hook(hook)
    model(**inputs).logits.square().mean().backward()
    handle.remove()
    for one, module in zip(found, attention_modules(model), strict=True):
        torch.testing.assert_close(one, module.q_proj.weight.grad)


@torch.no_grad()
def test_a_part_of_a_model_and_the_whole(model, inputs):
    """`running` on a part of a model opens the same stacks as on the whole of it."""
    plain = model(**inputs).logits
    with running(model.model.text_model, lambda call, inner: inner(call) * 0):
        assert not torch.equal(model(**inputs).logits, plain)
        with ablate(model, FIRST):
            model(**inputs)
    assert is_as_it_was(model, inputs, plain)
