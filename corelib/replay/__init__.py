"""Work that is done once: go on with a forward pass instead of running it again.

layer           one decoder layer, taken apart
recorder        a pass written down as it runs, and the proof that its layers can be taken apart
residual_cache  one plain pass, kept layer by layer
from_layer      go on from a layer, under many sets of ablated heads
from_question   read the question again behind pictures that were read once
shared_prefix   questions about one picture share its tokens in a kept pass
prefix_cache    many questions about one picture, under programs that change the rows of the picture too
"""
