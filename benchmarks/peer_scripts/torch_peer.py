"""The networks of `torch_networks` as a peer."""

import os
import resource

import torch
import torch_networks

MEMORY_SHARE = 0.75  # of the machine; a product attention that PyTorch does not do in blocks would take all
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class Peer:
    """One network with its weights, optimiser and batch."""

    is_compiled = True  # nothing is left to compile at a first call

    def __init__(self, task, arrays):
        """Takes what `peers.write_task` wrote."""
        limit = int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        self.task, self.arrays = task, arrays
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.fields, self.layout = task["fields"], LAYOUTS[task["layout"]]
        self.network = torch_networks.NETWORKS[task["model"]]
        self.batch = [torch.from_numpy(arrays[name]) for name in ("image", "mask", "noise")]
        self.picture = [torch.from_numpy(arrays[name]) for name in ("picture", "picture_mask")]
        self.per_value = task["per_value"]
        weights = {
            name.removeprefix("weights/"): torch_networks.convert(name, array)
            for name, array in arrays.items()
            if name.startswith("weights/")
        }
        for weight in weights.values():
            if weight.ndim == 4:
                weight.data = weight.contiguous(memory_format=self.layout)
            weight.requires_grad_()
        self.weights = weights
        self.optimizer = torch.optim.Adam(weights.values(), lr=1e-4)
        num_parameters = sum(weight.numel() for weight in weights.values())
        self.facts = {"num_parameters": num_parameters, "version": f"PyTorch {torch.__version__}"}

    def objective(self):
        """Terms of the batch and the loss."""
        image, mask, noise = self.batch
        terms = self.network(self.weights, self.fields, image, mask, noise, self.layout)
        bound = terms["reconstruction"] - terms.get("kl", 0.0)
        if not self.per_value:
            return terms, -bound.mean()
        return terms, -bound.sum() / ((~mask).sum() * image.shape[-1])

    def train_step(self):
        """One optimiser step; answers with its images."""
        self.optimizer.zero_grad(set_to_none=True)
        _, loss = self.objective()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        return len(self.batch[0])

    def wait(self):
        """Nothing runs behind."""

    def complete(self):
        """Completes the picture once."""
        try:
            with torch.inference_mode():
                self.network(self.weights, self.fields, *self.picture, None, self.layout)
        except RuntimeError as error:  # PyTorch's own, of memory
            raise NotImplementedError(str(error).splitlines()[0]) from error

    def terms(self):
        """The terms of the first step, its loss and the length of its gradient, as arrays."""
        new = Peer(self.task, self.arrays)  # without the steps since then
        terms, loss = new.objective()
        gradients = torch.autograd.grad(loss, list(new.weights.values()))
        norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
        return {name: x.detach().numpy() for name, x in (terms | {"loss": loss, "grad_norm": norm}).items()}
