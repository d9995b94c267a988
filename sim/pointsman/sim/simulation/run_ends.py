"""Whose run of iterations ends first."""

from pointsman.sim.simulation.node import Node


class RunEnds:
    """A tournament of nodes by the ends of their runs, the lower number first among equals.

    A heap of all ends that were ever due would hold those of runs that were cut, too, and each in an object of its own. Here a
    run's end is moved by as many comparisons as the logarithm of the number of nodes, at most, and nothing is made for it.
    """

    __slots__ = ("_leaves", "_winners")

    def __init__(self, nodes: list[Node]) -> None:
        """`nodes` by their numbers, at least one."""
        leaves = 1
        while leaves < len(nodes):
            leaves *= 2
        self._leaves = leaves
        # Places double: those of place p are 2p and 2p + 1, and the nodes themselves follow from `leaves` on. The last node
        # plays against itself where there are too few.
        self._winners: list[Node] = [nodes[-1]] * leaves + nodes + [nodes[-1]] * (leaves - len(nodes))
        for place in range(leaves - 1, 0, -1):
            self._winners[place] = self._match(place)

    def first(self) -> Node:
        """The node whose run ends first."""
        return self._winners[1]

    def moved(self, node: Node) -> None:
        """The end of its run is another one."""
        winners = self._winners
        place = (self._leaves + node.number) >> 1
        while place:
            before = winners[place]
            winner = self._match(place)
            if winner is before and winner is not node:
                return
            winners[place] = winner
            place >>= 1

    def _match(self, place: int) -> Node:
        left, right = self._winners[2 * place], self._winners[2 * place + 1]
        return left if left.run_end_ps <= right.run_end_ps else right
