from cover.cli import main

main()
