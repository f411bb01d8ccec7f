"""What plain ViTs over tubelets share, whatever their family.

block.py      attention, block, drop path
tubelets.py   from clips to tokens, and the mean token of a clip
inflation.py  plain image ViTs to start from
"""
