import os

import pytest

from bridge import to_tf, to_torch  # first: TensorFlow before PyTorch

# isort: split
import numpy as np
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
]


def numbers(dtype, *shape):
    return (10 * torch.randn(shape, dtype=torch.complex64 if dtype.is_complex else torch.float32)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_cross_and_come_back_in_the_same_memory(dtype):
    x = numbers(dtype, 3, 4)
    there = to_tf(x)
    assert there.dtype.name == str(dtype).removeprefix("torch.")
    back = to_torch(there)
    assert back.dtype == dtype
    assert torch.equal(back, x)
    assert back.data_ptr() == x.data_ptr()


def test_what_one_framework_writes_the_other_reads():
    x = torch.zeros(4, 4)
    there = to_tf(x)
    x[1, 2] = 7.0
    assert there[1, 2] == 7.0
    back = to_torch(there)
    back[0, 0] = 5.0
    assert x[0, 0] == 5.0


@st.composite
def views(draw):
    """Any tensor that slicing, broadcasting and transposing make out of a contiguous one."""
    shape = draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    x = x.permute(draw(st.permutations(range(len(shape)))))
    for axis in range(x.ndim):
        x = x.movedim(axis, 0)[draw(st.integers(0, 2)) :: draw(st.integers(1, 3))].movedim(0, axis)
    return x.expand(draw(st.integers(1, 2)), *x.shape)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(x=views())
def test_any_layout_crosses(x):
    there = to_tf(x)
    np.testing.assert_array_equal(there.numpy(), x.numpy())
    assert torch.equal(to_torch(there), x)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (2, 0, 4), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128, torch.int64, torch.bool], ids=str)
def test_any_shape_crosses(shape, dtype):
    x = numbers(torch.float32, *shape).to(dtype)
    assert to_tf(x).shape == shape
    assert torch.equal(to_torch(to_tf(x)), x)


@pytest.mark.parametrize(
    "x",
    [
        pytest.param(torch.randn(4, 6).T, id="transposed"),
        pytest.param(torch.randn(4, 6)[:, ::2], id="strided"),
        pytest.param(torch.randn(9)[1:], id="unaligned"),
        pytest.param(torch.randn(1, 5).expand(3, 5), id="expanded"),
        pytest.param(torch.randn(3, 4, dtype=torch.complex64).conj(), id="conjugated"),
        pytest.param(torch.randn(3, dtype=torch.complex64).conj().imag, id="negated"),
        pytest.param(torch.randn(3, 4) > 0, id="boolean"),
    ],
)
def test_what_cannot_be_shared_is_copied(x):
    there = to_tf(x)
    np.testing.assert_array_equal(there.numpy(), x.resolve_conj().resolve_neg().numpy())
    if x.numel() and x.dtype == torch.float32:
        assert to_torch(there).data_ptr() != x.data_ptr()


def test_a_tensor_that_wants_a_gradient_crosses_without_it():
    x = torch.randn(3, requires_grad=True)
    assert not to_torch(to_tf(x)).requires_grad


def test_casts_happen_when_asked_for():
    x = torch.randn(3, dtype=torch.bfloat16)
    assert to_tf(x, tf.float32).dtype == tf.float32
    assert torch.equal(to_torch(to_tf(x, tf.float32), dtype=torch.bfloat16), x)
    np.testing.assert_array_equal(to_tf(x, tf.float32).numpy(), x.float().numpy())


def test_a_shared_tensor_outlives_its_owner():
    x = torch.arange(1000.0)
    there = to_tf(x)
    del x
    torch.full((1000,), -1.0)
    np.testing.assert_array_equal(there, np.arange(1000.0))
    back = to_torch(tf.constant(np.arange(1000.0)))
    assert torch.equal(back, torch.arange(1000.0, dtype=torch.float64))


def test_wrong_kinds_are_refused():
    with pytest.raises(TypeError, match=r"to_tf expects a torch\.Tensor, got ndarray"):
        to_tf(np.zeros(3))
    with pytest.raises(TypeError, match=r"to_tf takes dense tensors of .*float32.*; got float32, torch\.sparse_coo"):
        to_tf(torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match=r"to_torch expects an eager tf\.Tensor, got Tensor"):
        to_torch(torch.zeros(3))
    with pytest.raises(TypeError, match=r"to_torch takes .*; got string"):
        to_torch(tf.constant("text"))


def test_a_tensor_without_numbers_is_refused():
    with pytest.raises(ValueError, match="on the meta device, where tensors have no numbers"):
        to_tf(torch.zeros(3, device="meta"))


def test_a_forked_process_gets_an_error_instead_of_waiting_for_ever():
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            to_tf(torch.zeros(3))
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        assert "TensorFlow does not survive a fork; spawn workers" in said.read()


def test_a_symbolic_tensor_is_refused():
    with pytest.raises(TypeError, match=r"to_torch expects an eager tf\.Tensor, got SymbolicTensor"):
        tf.function(lambda x: to_torch(x))(tf.zeros(3))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gpu_tensor_goes_to_host_memory_and_back(dtype):
    x = numbers(dtype, 3, 4).cuda()
    there = to_tf(x)
    assert "CPU" in there.device
    back = to_torch(there, device=x.device)
    assert back.device == x.device
    assert torch.equal(back, x)
