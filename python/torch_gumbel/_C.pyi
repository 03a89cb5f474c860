from torch import Generator, Tensor

def gumbel_softmax(
    logits: Tensor,
    tau: float,
    hard: bool,
    dim: int,
    recompute: bool,
    generator: Generator | None,
    key: Tensor | None,
    /,
) -> Tensor: ...
def gumbel_softmax_tensor_tau(
    logits: Tensor,
    tau: Tensor,
    hard: bool,
    dim: int,
    recompute: bool,
    generator: Generator | None,
    key: Tensor | None,
    /,
) -> Tensor: ...
def gumbel_argmax(
    logits: Tensor,
    dim: int,
    keepdim: bool,
    num_samples: int | None,
    temperature: float,
    generator: Generator | None,
    key: Tensor | None,
    /,
) -> Tensor: ...
def gumbel_argmax_tensor_temperature(
    logits: Tensor,
    temperature: Tensor,
    dim: int,
    keepdim: bool,
    num_samples: int | None,
    generator: Generator | None,
    key: Tensor | None,
    /,
) -> Tensor: ...
def build_info() -> dict[str, str]: ...
