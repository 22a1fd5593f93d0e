"""What is seen in a graph that torch.compile is given."""


def operators(graph):
    """The names of our operators that a graph calls."""
    targets = [str(node.target).removesuffix(".default") for node in graph.graph.nodes]
    return {target.removeprefix("motionops.") for target in targets if target.startswith("motionops.")}
