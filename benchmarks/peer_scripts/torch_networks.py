"""IFANP, ANP and the multi-scale neural process in PyTorch: the same functions of the same weights as here.

Weights are a dictionary by Flax path, as `convert` makes them. Maps are (B, D, H, W), as PyTorch has them;
what comes in and goes out is (B, H, W, C). Each network answers with the terms of the training's objective:
the predicted mean and standard deviation, the reconstruction and, where it has a latent variable, the KL.
"""

import math

import torch
from torch.nn import functional

MAX_LOGIT, MAX_ENTRIES = 30.0, 4096**2  # of the shared attention
MAX_DECAY, CONFIDENCE_FLOOR, MIN_MSE = 30.0, 1e-4, 1e-5
DEGREES_OF_FREEDOM = 4  # of Student's t


def convert(path, array):
    """A weight in PyTorch's layout: convolutions (out, in, h, w), Dense layers (out, in)."""
    tensor = torch.from_numpy(array.copy())
    if not path.endswith("kernel"):
        return tensor
    return (tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T).contiguous()


def gelu(x):
    """As `flax.linen.gelu`."""
    return functional.gelu(x, approximate="tanh")


def dense(weights, name, x):
    """A Dense layer on the last axis."""
    return functional.linear(x, weights[f"{name}/kernel"], weights.get(f"{name}/bias"))


def dense_map(weights, name, x):
    """A Dense layer on the channels of maps (B, D, H, W)."""
    return functional.conv2d(x, weights[f"{name}/kernel"][:, :, None, None], weights.get(f"{name}/bias"))


def conv(weights, name, x):
    """A 3x3 convolution; with stride 1, Flax's transposed one is the same."""
    return functional.conv2d(x, weights[f"{name}/kernel"], weights[f"{name}/bias"], padding=1)


def mlp(weights, name, x, depth):
    """`PointwiseEncoder`."""
    for index in range(depth):
        x = dense(weights, f"{name}/Dense_{index}", gelu(x) if index else x)
    return x


def coordinates(height, width):
    """Pixel centres in [-1, 1], (H, W, 2)."""
    rows = (torch.arange(height, dtype=torch.float32) + 0.5) / height * 2 - 1
    columns = (torch.arange(width, dtype=torch.float32) + 0.5) / width * 2 - 1
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


def to_maps(x, memory_format):
    """(B, H, W, D) to (B, D, H, W)."""
    return x.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)


def latent_gaussian(raw):
    """Mean and standard deviation of z."""
    mean, scale = raw.chunk(2, dim=-1)
    return mean, 0.1 + 0.9 * torch.sigmoid(scale)


def gaussian_kl(full, context):
    """KL per image."""
    (mean_q, scale_q), (mean_p, scale_p) = full, context
    excess = (scale_q - scale_p) * (scale_q + scale_p) / scale_p**2
    return 0.5 * (((mean_q - mean_p) / scale_p) ** 2 + excess - torch.log1p(excess)).sum(dim=-1)


def fixed_log_prob(image, mean, sigma):
    """Log-likelihood of all pixels, per image, under one sigma."""
    log_prob = -0.5 * ((image - mean) / sigma) ** 2 - math.log(sigma) - 0.5 * math.log(2 * math.pi)
    return log_prob.sum(dim=(1, 2, 3))


def to_ball(theta):
    """Embeddings scaled back onto |theta|^2 <= MAX_LOGIT."""
    square = (theta**2).sum(dim=-1, keepdim=True)
    return theta * torch.rsqrt(torch.clamp(square / MAX_LOGIT, min=1.0))


def shared_attention(theta, values, observed, targets):
    """`gca.attend`: one similarity for all images, in blocks of targets where it is large."""
    theta, targets = to_ball(theta), to_ball(targets)
    squeezed = torch.where(observed[:, :, None], values, 0.0)
    b, n, d = values.shape
    known = observed.to(values.dtype)
    columns = squeezed.permute(1, 0, 2).reshape(n, b * d)
    blocks = []
    for part in targets.split(max(1, MAX_ENTRIES // n)):
        weights = torch.exp(part @ theta.T)
        total = (weights @ known.T)[:, :, None]  # (T, B, 1)
        blocks.append((weights @ columns).reshape(len(part), b, d) / torch.where(total > 0, total, 1.0))
    return torch.cat(blocks).permute(1, 0, 2)  # (B, N, D)


def conv_encoder(weights, name, x, depth):
    """`ConvEncoder` on maps."""
    x = dense_map(weights, f"{name}/Dense_0", x)
    for index in range(depth):
        x = x + conv(weights, f"{name}/Conv_{index}", gelu(x))
    return x


def local_pooling(x):
    """`LocalPoolingAggregation` with the paper's window."""
    offsets = torch.arange(-1.0, 2.0)
    window = torch.exp(-torch.hypot(offsets[:, None], offsets[None, :]))
    window = (window / window.sum())[None, None].expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(x, window, padding=1, groups=x.shape[1])


def ifanp(weights, fields, image, mask, noise, memory_format):
    """IFANP; `noise` (B, Z) in training, where the full image is encoded too, and None in completion."""
    b, h, w, _ = image.shape
    xy = coordinates(h, w)
    inputs = torch.cat([image, xy.expand(b, h, w, 2)], dim=-1)
    masked = to_maps(torch.where(mask, inputs, 0.0), memory_format)
    seen, shares = masked, mask.float().mean(dim=(1, 2))
    if noise is not None:
        seen = torch.cat([masked, to_maps(inputs, memory_format)])
        shares = torch.cat([shares, torch.ones_like(shares)])
    pooled = local_pooling(conv_encoder(weights, "encoder1", seen, fields["encoder_depth"])).mean(dim=(2, 3))
    mean, scale = latent_gaussian(mlp(weights, "encoder3", pooled / torch.clamp(shares, min=1 / (h * w)), 2))
    context, full = (mean[:b], scale[:b]), (mean[b:], scale[b:])
    z = context[0] if noise is None else full[0] + full[1] * noise

    values = conv_encoder(weights, "encoder2", masked, fields["encoder_depth"])
    theta = mlp(weights, "attention_0/theta", xy.reshape(h * w, 2), 3)
    d = values.shape[1]
    attended = shared_attention(
        theta, values.permute(0, 2, 3, 1).reshape(b, h * w, d), mask.reshape(b, h * w), theta
    )
    x = dense_map(weights, "decoder/from_features", to_maps(attended.reshape(b, h, w, d), memory_format))
    x = x + dense_map(weights, "decoder/from_coordinates", to_maps(xy[None], memory_format))
    x = x + dense(weights, "decoder/from_z", z)[:, :, None, None]
    for index in range(fields["decoder_depth"]):
        x = x + conv(weights, f"decoder/Conv_{index}", gelu(x))
    mean = dense_map(weights, "decoder/Dense_0", gelu(x)).permute(0, 2, 3, 1)
    return _fixed_answer(fields, image, mean, noise, full, context)


def _fixed_answer(fields, image, mean, noise, full, context):
    answer = {"mean": mean, "scale": torch.full_like(mean, fields["sigma"])}
    if noise is not None:
        answer["reconstruction"] = fixed_log_prob(image, mean, fields["sigma"])
        answer["kl"] = gaussian_kl(full, context)
    return answer


def self_attention(weights, name, features, observed, num_heads):
    """`MaskedAttention` by PyTorch's own product attention."""
    b, n, width = features.shape

    def project(part, x):
        return dense(weights, f"{name}/{part}", x).reshape(b, n, num_heads, -1).transpose(1, 2)

    values = torch.where(observed[:, :, None], features, 0.0)
    attended = functional.scaled_dot_product_attention(
        project("query", features),
        project("key", features),
        project("value", values),
        attn_mask=observed[:, None, None, :],  # as it is: an expanded one is copied, N x N for every image
    )
    return dense(weights, f"{name}/out", attended.transpose(1, 2).reshape(b, n, width))


def anp(weights, fields, image, mask, noise, memory_format):
    """ANP with or without self-attention; `noise` as of `ifanp`."""
    del memory_format
    b, h, w, c = image.shape
    n, heads, depth = h * w, fields["num_heads"], fields["encoder_depth"]
    xy, observed = coordinates(h, w).reshape(n, 2), mask.reshape(b, n)

    def points(observed):
        values = torch.where(observed[:, :, None], image.reshape(b, n, c), 0.0)
        return torch.cat([xy.expand(b, n, 2), values], dim=-1)

    def latent(observed):
        features = mlp(weights, "latent_encoder", points(observed), depth)
        if fields["has_self_attention"]:
            features = features + self_attention(weights, "latent_self_attention", features, observed, heads)
        total = torch.where(observed[:, :, None], features, 0.0).sum(dim=1)
        mean = total / torch.clamp(observed.sum(dim=1), min=1)[:, None]
        return latent_gaussian(mlp(weights, "to_latent", mean, 2))

    context = latent(observed)
    full = latent(torch.ones_like(observed)) if noise is not None else context
    z = context[0] if noise is None else full[0] + full[1] * noise
    features = mlp(weights, "encoder", points(observed), depth)
    if fields["has_self_attention"]:
        features = features + self_attention(weights, "self_attention", features, observed, heads)
    r = cross_attention(weights, mlp(weights, "position_encoder", xy, 2), features, observed, heads)
    hidden = dense(weights, "decoder/from_x", xy)[None] + dense(weights, "decoder/from_r", r)
    hidden = hidden + dense(weights, "decoder/from_z", z)[:, None]
    for index in range(fields["decoder_depth"] - 1):
        hidden = dense(weights, f"decoder/Dense_{index}", gelu(hidden))
    out = dense(weights, f"decoder/Dense_{fields['decoder_depth'] - 1}", gelu(hidden))
    return _fixed_answer(fields, image, out.reshape(b, h, w, c), noise, full, context)


def cross_attention(weights, positions, features, observed, num_heads):
    """`PositionAttention`."""
    n, width = positions.shape
    scale = (width // num_heads) ** -0.25
    queries = (scale * dense(weights, "cross_attention/query", positions)).reshape(n, num_heads, -1)
    keys = (scale * dense(weights, "cross_attention/key", positions)).reshape(n, num_heads, -1)
    values = dense(weights, "cross_attention/value", features).reshape(len(features), n, num_heads, -1)
    heads = [
        shared_attention(keys[:, head], values[:, :, head], observed, queries[:, head])
        for head in range(num_heads)
    ]
    return dense(weights, "cross_attention/out", torch.cat(heads, dim=-1))


def interpolate(weights, image, mask):
    """`KernelInterpolation`: values (B, H, W, K, C) and confidences (B, H, W, K)."""
    length_scale = torch.exp(weights["kernels/log_length_scale"])

    def axis_weights(size):
        position = torch.arange(size, dtype=torch.float32)
        distance = (position[:, None] - position[None, :]).abs()
        return torch.exp(-torch.clamp(distance[None] / length_scale[:, None, None], max=MAX_DECAY))

    _, h, w, _ = image.shape
    x = torch.cat([torch.where(mask, image, 0.0), mask.float()], dim=-1)
    over_rows = torch.einsum("khi,biwc->khbwc", axis_weights(h), x)
    sums = torch.einsum("kwv,khbvc->bhwkc", axis_weights(w), over_rows)
    weighted, total = sums[..., :-1], sums[..., -1:]
    scale = (1 / torch.where(total > 0, total, 1.0)).detach()
    values = weighted * scale / torch.where(total > 0, total * scale, 1.0)
    return values, torch.log(total[..., 0] + CONFIDENCE_FLOOR)


def residual_block(weights, name, x):
    """`ResidualBlock` with gelu."""
    return x + conv(weights, f"{name}/Conv_1", gelu(conv(weights, f"{name}/Conv_0", gelu(x))))


def space_to_depth(weights, name, x):
    """Space-to-depth and Dense, as the 2x2 convolution of stride 2 that they are."""
    kernel = weights[f"{name}/kernel"]  # (out, 2 * 2 * in)
    kernel = kernel.reshape(len(kernel), 2, 2, -1).permute(0, 3, 1, 2)
    return functional.conv2d(x, kernel, weights[f"{name}/bias"], stride=2)


def depth_to_space(weights, name, x):
    """Dense and depth-to-space, its outputs in the order of PyTorch's pixel shuffle."""
    kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
    kernel = kernel.reshape(4, -1, kernel.shape[1]).transpose(0, 1).reshape(kernel.shape)
    bias = bias.reshape(4, -1).T.reshape(-1)
    return functional.pixel_shuffle(functional.conv2d(x, kernel[:, :, None, None], bias), 2)


def unet(weights, fields, x):
    """`UNet` on maps whose sides it can halve."""
    skips, levels = [], len(fields["widths"])
    for level in range(levels):
        enter = space_to_depth if level else dense_map
        x = enter(weights, f"network/enter_{level}", x)
        for index in range(fields["down_blocks"][level]):
            x = residual_block(weights, f"network/down_path_{level}_{index}", x)
        skips.append(x)
    for level in reversed(range(levels - 1)):
        x = depth_to_space(weights, f"network/leave_{level}", x) + skips[level]
        for index in range(fields["up_blocks"][level]):
            x = residual_block(weights, f"network/up_path_{level}_{index}", x)
    return x


def multiscale(weights, fields, image, mask, noise, memory_format):
    """The multi-scale neural process with a covariance per pixel and without a latent variable."""
    b, h, w, c = image.shape
    values, confidences = interpolate(weights, image, mask)
    observed = torch.where(mask, image, 0.0)
    x = torch.cat([observed, mask.float(), values.reshape(b, h, w, -1), confidences], dim=-1)
    x = gelu(unet(weights, fields, to_maps(x, memory_format)))
    mean = values[:, :, :, 0] + dense_map(weights, "mean_head", x).permute(0, 2, 3, 1)
    raw = dense_map(weights, "scale_head", x).permute(0, 2, 3, 1)
    start = math.log(math.expm1(fields["sigma"] - fields["sigma_floor"]))
    diagonal = fields["sigma_floor"] + functional.softplus(raw[..., :c] + start)
    factor = cholesky_rows(diagonal, raw[..., c:])
    scale = torch.stack([sum(x**2 for x in row) for row in factor], dim=-1).sqrt()
    answer = {"mean": mean, "scale": scale}
    if noise is not None:
        answer["reconstruction"] = multiscale_objective(image, mean, factor, ~mask, fields["scale_weight"])
    return answer


def cholesky_rows(diagonal, regression):
    """The rows of `heads.cholesky_factor`: lists of (B, H, W), without what is zero."""
    rows, column = [], 0
    for i in range(diagonal.shape[-1]):
        regress = regression[..., column : column + i]
        below = [sum(regress[..., j] * rows[j][k] for j in range(k, i)) for k in range(i)]
        rows.append([*below, diagonal[..., i]])
        column += i
    return rows


def multiscale_objective(image, mean, factor, targets, weight):
    """The terms of the mean and, with the mean constant, of the covariance, per image."""
    n, counted = targets.sum(dim=(1, 2, 3)) * image.shape[-1], targets[..., 0]
    mse = torch.where(targets, (image - mean) ** 2, 0.0).sum(dim=(1, 2, 3)) / torch.clamp(n, min=1)
    error, whitened = image - mean.detach(), []
    for i, row in enumerate(factor):
        rest = error[..., i] - sum(row[j] * whitened[j] for j in range(i))
        whitened.append(rest / row[i])
    square, v, c = sum(x**2 for x in whitened), DEGREES_OF_FREEDOM, len(factor)
    constant = math.lgamma((v + c) / 2) - math.lgamma(v / 2) - c / 2 * math.log((v - 2) * math.pi)
    log_prob = constant - (v + c) / 2 * torch.log1p(square / (v - 2)) - sum(torch.log(r[-1]) for r in factor)
    return -0.5 * n * torch.log(mse + MIN_MSE) + weight * torch.where(counted, log_prob, 0.0).sum(dim=(1, 2))


NETWORKS = {
    "image_np.IFANP": ifanp,
    "point_np.ANP": anp,
    "multiscale_np.MultiscaleNP": multiscale,
}
